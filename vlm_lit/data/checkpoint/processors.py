"""Loading of a checkpoint's processor, with the image backend that the settings name.

A checkpoint's files name an image processor, not the library that does its work: by itself transformers takes
torchvision's where torchvision is installed and Pillow's elsewhere, and the two resize to slightly different pixels.
Here the setting `image_backend` decides, on every machine alike.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from transformers import AutoImageProcessor, AutoProcessor, ProcessorMixin
from transformers.utils import is_torchvision_available

from vlm_lit.data.checkpoint.image_settings import ImageSettings, apply
from vlm_lit.data.checkpoint.processor_files import class_name
from vlm_lit.data.checkpoint.processors_without_torchvision import processor_class
from vlm_lit.data.checkpoint.published_processors import complete
from vlm_lit.errors import ConfigError
from vlm_lit.files.checkpoint_settings import check_checkpoint_settings

ImageBackend: TypeAlias = Literal["pil", "torchvision"]
"""The library that resizes and normalizes pictures."""

IMAGE_BACKEND: Final[ImageBackend] = "pil"
"""What is used where nothing else is asked for, whatever is installed."""

_PANIC: Final = "PanicException"
"""The class of what tokenizers, written in Rust, ends in where it did not expect a file; it cannot be imported."""

# Pillow decodes the files for both.
_LIBRARIES: Final[dict[str, tuple[str, ...]]] = {"pil": ("pillow",), "torchvision": ("pillow", "torchvision")}


def load_processor(
    model_id: str,
    revision: str | None = None,
    image_backend: ImageBackend = IMAGE_BACKEND,
    image_settings: ImageSettings | None = None,
    *,
    turns: bool = True,
) -> ProcessorMixin:
    """The checkpoint's own processor, from a local folder or the hub; no remote code is run.

    Args:
        model_id: local folder or hub id.
        revision: branch, tag or commit on the hub.
        image_backend: the library that resizes and normalizes pictures.
        image_settings: how a run prepares pictures otherwise than the checkpoint's files say.
        turns: whether it must be able to tell an answer from its prompt; a classifier's is given questions alone.

    Raises:
        ConfigError: there is none, it has neither a chat template nor a `suffix` to tell an answer from its prompt
            where it needs one, the backend is not there, or the settings are not for it.
    """
    check_image_backend(image_backend)
    processor = _load(model_id, revision, image_backend)
    if not isinstance(processor, ProcessorMixin) or not hasattr(processor, "image_processor"):
        found = type(processor).__name__
        raise ConfigError(f"No processor for model_id {model_id!r}: its files give a {found}, which takes no pictures.")
    if processor.image_processor.backend != image_backend:
        has = processor.image_processor.backend
        raise ConfigError(
            f"No processor for model_id {model_id!r}: transformers has no {image_backend} image processor for it. Set "
            f"data.init_args.image_backend to {has}, which it has."
        )
    complete(processor, model_id, revision)
    if turns and getattr(processor, "chat_template", None) is None and not takes_suffix(processor):
        raise ConfigError(
            f"The processor of {model_id!r} has no chat template, so turns cannot be told apart. Use the checkpoint's "
            "instruction-tuned version, or put a chat_template.jinja of your own beside the checkpoint's files."
        )
    apply(processor, image_settings or ImageSettings())
    return processor


def check_image_backend(image_backend: str) -> None:
    """Refuse a backend that is unknown or not installed; transformers would take the other one instead.

    Raises:
        ConfigError: naming the setting, and what to install.
    """
    if image_backend not in get_args(ImageBackend):
        known = " or ".join(get_args(ImageBackend))
        raise ConfigError(f"data.init_args.image_backend is {image_backend!r}; it must be {known}.")
    if image_backend == "torchvision" and not is_torchvision_available():
        raise ConfigError(
            "data.init_args.image_backend is torchvision, which is not installed: pip install 'vlm_lit[torchvision]', "
            f"or use {IMAGE_BACKEND}."
        )


def backend_of(identity: Mapping[str, Any]) -> ImageBackend:
    """The backend of a run by what its fingerprint says of its processor; the default where that is not installed."""
    asked = identity.get("image_backend")
    return "torchvision" if asked == "torchvision" and is_torchvision_available() else IMAGE_BACKEND


def settings_of(identity: Mapping[str, Any]) -> ImageSettings:
    """The image settings of a run by what its fingerprint says of its processor.

    Raises:
        ConfigError: it says what is none.
    """
    said = identity.get("image_settings") or {}
    try:
        return ImageSettings(**said)
    except TypeError as error:
        raise ConfigError(f"The adapter's fingerprint has image_settings {said!r:.60}. Train it again.") from error


def _load(model_id: str, revision: str | None, image_backend: ImageBackend) -> object:
    try:
        check_checkpoint_settings(Path(model_id))
        name = class_name(model_id, revision)
        loader = AutoProcessor if name is None else processor_class(name)
        processor = loader.from_pretrained(model_id, revision=revision or "main", trust_remote_code=False)
        pictures = getattr(processor, "image_processor", None)
        if pictures is not None and pictures.backend != image_backend:
            # The call above cannot be told: it would hand a `backend` to the tokenizer and the video processor as well.
            processor.image_processor = AutoImageProcessor.from_pretrained(
                model_id, revision=revision, backend=image_backend, trust_remote_code=False
            )
    except ConfigError as error:
        raise ConfigError(f"No processor for model_id {model_id!r}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # damaged files end in errors of every type
        reason = str(error).strip().split("\n")[0]
        if not isinstance(error, OSError | ValueError | ImportError):
            reason = f"its files are damaged ({type(error).__name__}: {reason})"
        raise ConfigError(f"No processor for model_id {model_id!r}: {reason}") from error
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        raise ConfigError(f"No processor for model_id {model_id!r}: its tokenizer.json is damaged ({error}).") from None
    return processor


def takes_suffix(processor: ProcessorMixin) -> bool:
    """Whether the processor itself puts an answer, given as `suffix=`, behind its prompt (PaliGemma's does)."""
    return "suffix" in inspect.signature(type(processor).__call__).parameters


def processor_identity(processor: ProcessorMixin) -> dict[str, object]:
    """What names a processor: its image settings, what carries them out, and the digest of its chat template."""
    pictures = processor.image_processor
    return {
        "class": type(processor).__name__,
        # Its settings name one class for both backends.
        "image_processor": json.loads(pictures.to_json_string()),
        "image_processor_class": type(pictures).__name__,
        "image_backend": pictures.backend,
        "image_libraries": {name: version(name).partition("+")[0] for name in _LIBRARIES[pictures.backend]},
        "chat_template_sha256": template_sha256(processor.chat_template),
        **({"image_settings": settings} if (settings := getattr(processor, "image_settings", None)) else {}),
    }


def template_sha256(template: object) -> str:
    """The digest of a chat template, of several by name, or of none."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()


def tokenizer_sha256(tokenizer: Any) -> str:  # noqa: ANN401 - transformers' tokenizers share no type that says more
    """The digest of a tokenizer's vocabulary and rules; how its last call padded and cut is none of these."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest()
    rules = json.loads(backend.to_str())
    for name in ("padding", "truncation"):
        rules.pop(name, None)
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()
