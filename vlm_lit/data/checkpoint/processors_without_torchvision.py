"""Processors that no public call of transformers can make where torchvision is not installed.

Which library resizes the pictures is not decided here: `processors.py` does that by a public call. Two kinds of
processor cannot be made at all without torchvision, though pictures alone do not need it:

- One that also takes videos (Qwen-VL, SmolVLM, InternVL). It insists on a video processor, every one of those imports
  torchvision, and registering another with `AutoVideoProcessor` does not help: the class that a video processor is
  checked against is itself missing. `NoVideoProcessor` holds that place.
- Pixtral's. Its module takes one function by name from the module of torchvision's image processor, which cannot be
  imported then, though the same function is in a module that can: see `_pixtral_class`.

Everything else about the processor, and about what it saves, is the library's own. Where torchvision is installed,
nothing here stands between a caller and the library.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

from transformers import ProcessorMixin
from transformers.models.auto.processing_auto import processor_class_from_name
from transformers.processing_utils import VideosKwargs
from transformers.utils import is_torchvision_available
from transformers.video_processing_utils import VideoProcessorMixin

from vlm_lit.data.checkpoint.processor_files import video_settings
from vlm_lit.errors import ConfigError

VIDEO: Final = "video_processor"

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
            settings = video_settings(pretrained_model_name_or_path, kwargs.get("revision"))
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
    """The processor class called `name`, so that it can be made and loaded with and without torchvision.

    Without it, a class that takes a video processor is a subclass of the same name that takes a `NoVideoProcessor`.

    Raises:
        ConfigError: the library has no class of that name.
    """
    missing = not is_torchvision_available()
    found = _pixtral_class() if missing and name == "PixtralProcessor" else processor_class_from_name(name)
    # A class whose requirements are missing answers this with the ImportError that names them.
    attributes = getattr(found, "get_attributes", None)
    if attributes is None:
        raise ConfigError(f"transformers {version('transformers')} has no processor class called {name!r}.")
    if VIDEO in attributes() and missing:
        return type(name, (_WithoutVideo, found), {"__module__": found.__module__, "__doc__": found.__doc__})
    return found


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
