"""How does a processor load where torchvision is not installed?

transformers 5 makes two kinds of processor depend on torchvision although pictures alone do not need it. A processor
that also takes videos (Qwen-VL, SmolVLM, InternVL) wants a video processor, and every one of those imports
torchvision; here `NoVideoProcessor` holds that place. Pixtral's module imports the torchvision version of a function
that exists without it. Everything else about the processor, and about what it saves, is the library's own.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from transformers import AutoConfig, AutoProcessor, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES, processor_class_from_name
from transformers.processing_utils import VideosKwargs
from transformers.utils import is_torchvision_available
from transformers.utils.hub import cached_file
from transformers.video_processing_utils import VideoProcessorMixin

from vlm_lit.schema import ConfigError

VIDEO: Final = "video_processor"

# The files that may name a processor's class, and those that may hold its video settings, in the library's order.
_NAMING_FILES: Final = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
)
_VIDEO_FILES: Final = ("video_preprocessor_config.json", "preprocessor_config.json")

_PIXTRAL: Final = "transformers.models.pixtral"


class NoVideoProcessor(VideoProcessorMixin):  # type: ignore[misc]
    """Holds a video processor's place and its saved settings, unchanged, so that saving writes what was read.

    Args:
        settings: the video processor's part of the checkpoint's files, as read.
    """

    def __init__(self, settings: dict[str, object] | None = None) -> None:
        super().__init__()
        self.settings = dict(settings or {})

    def __call__(self, videos: object, **kwargs: object) -> object:
        """Refuse: there is nothing here to decode a video with.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("Videos need torchvision, which is not installed: pip install 'vlm_lit[torchvision]'.")

    def __getattr__(self, name: str) -> object:
        # A processor may ask for a setting (SmolVLM for fps) before it knows whether there is a video.
        settings = self.__dict__.get("settings", {})
        if name in settings or name in VideosKwargs.__annotations__:
            return settings.get(name)
        raise AttributeError(name)

    def to_dict(self) -> dict[str, object]:
        """The settings as they were read."""
        return dict(self.settings)


class _WithoutVideo(ProcessorMixin):  # type: ignore[misc]
    """What a processor class is given to do without a video processor. Stands before the class among the bases."""

    def check_argument_for_proper_class(self, argument_name: str, argument: object) -> object:
        # The library looks its base class up under a name that is only there with torchvision.
        if argument_name == VIDEO and isinstance(argument, VideoProcessorMixin):
            return VideoProcessorMixin
        return super().check_argument_for_proper_class(argument_name, argument)

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: str, processor_dict: dict[str, object] | None = None, **kwargs: object
    ) -> list[object]:
        names = cls.get_attributes()
        others = classmethod(lambda _: [name for name in names if name != VIDEO])
        rest: Any = type(cls.__name__, cls.__bases__[1:], {"get_attributes": others})
        made: list[object] = rest._get_arguments_from_pretrained(
            pretrained_model_name_or_path, processor_dict, **kwargs
        )
        settings = (processor_dict or {}).get(VIDEO)
        if not isinstance(settings, dict):
            settings = _first_of(_VIDEO_FILES, pretrained_model_name_or_path, kwargs.get("revision"))
        made.insert(names.index(VIDEO), NoVideoProcessor(settings))
        return made

    def __reduce__(self) -> tuple[object, ...]:
        # Its name belongs to the library's class, so pickle (a spawned data worker) must be told where it comes from.
        return _blank, (type(self).__name__,), self.__dict__


def _blank(name: str) -> ProcessorMixin:
    made: Any = processor_class(name)
    return made.__new__(made)


@cache
def processor_class(name: str) -> type[ProcessorMixin]:
    """The processor class called `name`, so that it can be made and loaded without torchvision.

    Where the class takes a video processor this is a subclass of the same name, which takes a `NoVideoProcessor`.

    Raises:
        ConfigError: the library has no class of that name.
    """
    pixtral = name == "PixtralProcessor" and not is_torchvision_available()
    found = _pixtral_class() if pixtral else processor_class_from_name(name)
    # A class whose requirements are missing answers this with the ImportError that names them.
    attributes = getattr(found, "get_attributes", None)
    if attributes is None:
        raise ConfigError(f"transformers {version('transformers')} has no processor class called {name!r}.")
    if VIDEO not in attributes():
        return found
    return type(name, (_WithoutVideo, found), {"__module__": found.__module__, "__doc__": found.__doc__})


def _pixtral_class() -> type[ProcessorMixin]:
    """Pixtral's class. Its module takes one function from the torchvision image processor's module, by name.

    The module of the image processor that does without torchvision has the same function, so it stands in for the
    other while that import runs, and no longer.
    """
    wanted = f"{_PIXTRAL}.image_processing_pixtral"
    sys.modules[wanted] = import_module(f"{_PIXTRAL}.image_processing_pil_pixtral")
    try:
        found: type[ProcessorMixin] = import_module(f"{_PIXTRAL}.processing_pixtral").PixtralProcessor
        return found
    finally:
        del sys.modules[wanted]


def load_without_torchvision(model_id: str, revision: str | None = None) -> ProcessorMixin:
    """What `AutoProcessor.from_pretrained` would give with torchvision, for pictures; no remote code is run.

    Raises:
        OSError, ValueError, ImportError: as `AutoProcessor` does.
        ConfigError: the checkpoint names a processor class the library does not have.
    """
    name = _class_name(model_id, revision)
    if name is None:
        return AutoProcessor.from_pretrained(model_id, revision=revision, trust_remote_code=False)
    return processor_class(name).from_pretrained(model_id, revision=revision or "main", trust_remote_code=False)


def _class_name(model_id: str, revision: str | None) -> str | None:
    contents = [_read(file, model_id, revision) for file in _NAMING_FILES]
    named = [found["processor_class"] for found in contents if found.get("processor_class") is not None]
    if named:
        return str(named[0])
    try:
        config = AutoConfig.from_pretrained(model_id, revision=revision, trust_remote_code=False)
    except (OSError, ValueError):
        return None
    usual = PROCESSOR_MAPPING_NAMES.get(config.model_type)
    return None if usual is None else str(usual)


def _first_of(files: tuple[str, ...], model_id: str, revision: object) -> dict[str, object]:
    return next((found for found in (_read(file, model_id, revision) for file in files) if found), {})


def _read(file: str, model_id: str, revision: object) -> dict[str, object]:
    """The contents of one of the checkpoint's JSON files; empty where it has no such file."""
    path = cached_file(
        model_id,
        file,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    if path is None:
        return {}
    try:
        contents = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file} is not valid JSON ({error}); fetch the checkpoint's files again.") from error
    return contents if isinstance(contents, dict) else {}
