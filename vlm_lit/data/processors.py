"""Which processor turns words and pictures into tensors for a checkpoint?"""

from __future__ import annotations

import hashlib
import inspect
import json

from transformers import AutoProcessor, ProcessorMixin
from transformers.utils import is_torchvision_available

from vlm_lit.data.processors_without_torchvision import load_without_torchvision
from vlm_lit.data.published_processors import complete
from vlm_lit.schema import ConfigError


def load_processor(model_id: str, revision: str | None = None) -> ProcessorMixin:
    """The checkpoint's own processor, from a local folder or the hub; no remote code is run.

    Raises:
        ConfigError: there is none, or it has neither a chat template nor a `suffix` to tell an answer from its prompt.
    """
    processor = _load(model_id, revision)
    if not isinstance(processor, ProcessorMixin):
        found = type(processor).__name__
        raise ConfigError(f"No processor for model_id {model_id!r}: its files give a {found}, which takes no pictures.")
    complete(processor, model_id, revision)
    if getattr(processor, "chat_template", None) is None and not takes_suffix(processor):
        raise ConfigError(
            f"The processor of {model_id!r} has no chat template, so turns cannot be told apart. Use the checkpoint's "
            "instruction-tuned version, or put a chat_template.jinja of your own beside the checkpoint's files."
        )
    return processor


def _load(model_id: str, revision: str | None) -> object:
    try:
        if is_torchvision_available():
            return AutoProcessor.from_pretrained(model_id, revision=revision, trust_remote_code=False)
        return load_without_torchvision(model_id, revision)
    except ConfigError as error:
        raise ConfigError(f"No processor for model_id {model_id!r}: {error}") from error
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(f"No processor for model_id {model_id!r}: {reason}") from error


def takes_suffix(processor: ProcessorMixin) -> bool:
    """Whether the processor itself puts an answer, given as `suffix=`, behind its prompt (PaliGemma's does)."""
    return "suffix" in inspect.signature(type(processor).__call__).parameters


def processor_identity(processor: ProcessorMixin) -> dict[str, object]:
    """What names a processor: its image settings and the digest of its chat template."""
    template = json.dumps(processor.chat_template, sort_keys=True)
    settings = json.loads(processor.image_processor.to_json_string())
    return {
        "class": type(processor).__name__,
        "image_processor": settings,
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
    }
