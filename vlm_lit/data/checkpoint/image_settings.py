"""Settings of a run for its checkpoint's image processor: put into it, or refused where they would do nothing.

What the library itself stores and writes is changed, so that the processor's identity, its files beside a merged model
and its answers to how many tokens a picture needs all follow.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from PIL import Image
from transformers import ProcessorMixin
from transformers.image_processing_backends import PilBackend, TorchvisionBackend
from transformers.processing_utils import ImagesKwargs

from vlm_lit.data.checkpoint.image_tokens import image_tokens_of, shapes
from vlm_lit.errors import ConfigError
from vlm_lit.settings import meant

_SETTING: Final = "data.init_args.image_processor"
_PADDING: Final = "data.init_args.pad_to_square"

# Said at each call by whoever calls, not settings of a checkpoint.
_CALLERS: Final = {
    "data_format", "input_data_format", "device", "return_tensors", "disable_grouping", "return_row_col_info",
}  # fmt: skip

_LOOKED_AT: Final = ((90, 60), (44, 130), (640, 480))
"""Pictures of which a setting has to change something, or else the number of tokens of some other picture."""

_REFUSALS: Final = (TypeError, ValueError, KeyError, AttributeError, IndexError)
"""What image processors raise over settings that they cannot work with."""


ImageSetting: TypeAlias = bool | int | float | str | list[float] | dict[str, int] | dict[str, list[int]] | None
"""A value that image processors take; no class among them, since a config may come from strangers."""


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """How a run prepares pictures, as far as that is not as the checkpoint's files say.

    Args:
        image_processor: settings of the image processor by their names there.
        pad_to_square: whether a picture is first padded to a square with the mean colour, as LLaVA-1.5 does it.
    """

    image_processor: Mapping[str, Any] = field(default_factory=dict)
    pad_to_square: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.image_processor, Mapping):
            raise ConfigError(
                f"{_SETTING} is {self.image_processor!r}; it must be a mapping, as {{max_pixels: 1003520}}."
            )

    @property
    def given(self) -> dict[str, Any]:
        """The settings with a value; null leaves one as the checkpoint has it."""
        return {key: value for key, value in self.image_processor.items() if value is not None}


def apply(processor: ProcessorMixin, settings: ImageSettings) -> None:
    """Put the settings into a processor, in place; those that change something stand in its `image_settings` then.

    Raises:
        ConfigError: its image processor does not have one, cannot work with it, or would ignore it.
    """
    given = settings.given
    if settings.pad_to_square:
        if "do_pad" in given:
            raise ConfigError(f"{_SETTING}.do_pad and {_PADDING} both say how pictures are padded. Leave one out.")
        processor.image_processor = _padding_to_square(processor.image_processor)
    effective = {}
    if given:
        _check_names(processor.image_processor, given)
        whole = _configured(processor, given)
        for key, value in given.items():
            others = {name: kept for name, kept in given.items() if name != key}
            if _changes(whole, key, given, _configured(processor, others)):
                effective[key] = value
        processor.image_processor = whole.image_processor
        if _called_with(whole) != _called_with(processor):
            processor.images_kwargs = whole.images_kwargs
    if effective or settings.pad_to_square:
        padded = {"pad_to_square": True} if settings.pad_to_square else {}
        processor.image_settings = {**({"image_processor": effective} if effective else {}), **padded}


def _configured(processor: ProcessorMixin, given: Mapping[str, Any]) -> ProcessorMixin:
    """A copy of the processor with these settings.

    Some processors say a setting at each call, whatever the image processor has (InternVL's crop_to_patches, Gemma 3's
    do_pan_and_scan): those are set there as well.
    """
    changed = copy.copy(processor)
    changed.image_processor = _changed(processor.image_processor, given)
    called_with = _called_with(processor)
    said = {key: value for key, value in given.items() if key in called_with}
    if said:
        changed.images_kwargs = {**called_with, **said}
    return changed


def _called_with(processor: ProcessorMixin) -> dict[str, Any]:
    return dict(getattr(processor, "images_kwargs", {}))


def _changed(images: Any, given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any family's image processor
    """The image processor with other settings, made by its own constructor."""
    kept = images.to_dict()
    merged = {key: _completed(value, kept.get(key)) for key, value in given.items()}
    try:
        return type(images).from_dict(kept, **merged)
    except _REFUSALS as error:
        said = ", ".join(f"{key}: {value}" for key, value in given.items())
        raise ConfigError(f"{_SETTING}: {_name(images)} does not take {said} ({_first_line(error)}).") from error


def _completed(value: object, kept: object) -> object:
    """A mapping of some of the entries that are there, with the others; of other entries alone."""
    if not isinstance(value, Mapping):
        return value
    within = isinstance(kept, Mapping) and value.keys() <= kept.keys()
    return {**kept, **value} if within else dict(value)  # type: ignore[dict-item]


def _padding_to_square(images: Any) -> Any:  # noqa: ANN401 - any family's image processor
    """transformers' image processor of the LLaVA authors' own checkpoints, with the settings of `images`.

    It does what CLIP's and SigLIP's do, behind the padding: each picture is resized to one size. The published
    LLaVA-1.5 checkpoints name CLIP's.
    """
    resizes_alone = type(images)._preprocess in (PilBackend._preprocess, TorchvisionBackend._preprocess)
    if images.backend == "torchvision":
        from transformers.models.llava.image_processing_llava import LlavaImageProcessor as Llava
    else:
        from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil as Llava
    if not isinstance(images, Llava) and (not resizes_alone or images.do_pad):
        raise ConfigError(
            f"{_PADDING} is for checkpoints that resize each picture to one square, as LLaVA-1.5's do. "
            f"{_name(images)} keeps a picture's shape, or pads it in its own way. Set it to false."
        )
    # It crops by itself where nothing says that it is not to.
    return Llava.from_dict(images.to_dict(), do_pad=True, do_center_crop=bool(images.do_center_crop))


# Refusals ---------------------------------------------------------------------------------------------------------


def _check_names(images: Any, given: Mapping[str, Any]) -> None:  # noqa: ANN401 - any family's image processor
    allowed = set(images.valid_kwargs.__annotations__) - _CALLERS
    # The library lets every image processor have any of some twenty names; most without a value do nothing.
    own = set(images.valid_kwargs.__annotations__) - set(ImagesKwargs.__annotations__)
    known = sorted(key for key in allowed if key in own or getattr(images, key, None) is not None)
    for key in given:
        if key not in allowed:
            near = meant(key, known).removesuffix(f" There are: {', '.join(known)}.")
            raise ConfigError(
                f"{_SETTING}.{key} is not a setting of {_name(images)}, this checkpoint's image processor.{near} "
                f"There are: {', '.join(known)}."
            )


def _changes(processor: ProcessorMixin, key: str, given: Mapping[str, Any], without: ProcessorMixin) -> bool:
    """Whether a setting changes something; False where it says what is so already.

    Args:
        processor: has all settings.
        key: which one is judged.
        given: all settings.
        without: the processor with all settings but this one.

    Raises:
        ConfigError: it would be ignored.
    """
    images = processor.image_processor
    said_already = _called_with(processor) == _called_with(without)
    if said_already and _same_settings(images, without.image_processor):
        changes, fine = False, key in _called_with(processor) or _says_what_is_so(images, key, given)
    else:
        changes = fine = _makes_something_else(processor, without)
    if not fine:
        raise ConfigError(
            f"{_SETTING}.{key}: {given[key]} would be ignored: {_name(images)} makes the same of every picture without "
            "it. Leave it out, or set what it depends on as well."
        )
    return changes


def _same_settings(images: Any, others: Any) -> bool:  # noqa: ANN401 - any family's image processor
    return bool(json.loads(images.to_json_string()) == json.loads(others.to_json_string()))


def _says_what_is_so(images: Any, key: str, given: Mapping[str, Any]) -> bool:  # noqa: ANN401 - any family's
    """Whether a setting that changes nothing has the value that the image processor works with."""
    value, stored = given[key], json.loads(images.to_json_string()).get(key)
    if isinstance(value, Mapping) and isinstance(stored, Mapping):
        return all(stored.get(name) == entry for name, entry in value.items())
    if stored is not None:
        return bool(stored == value) or not isinstance(stored, type(value))  # size: 336 is stored as a mapping
    # Qwen's max_pixels is stored within size: another value would show there.
    return isinstance(value, int) and not _same_settings(_changed(images, {key: value + 1}), images)


def _makes_something_else(processor: ProcessorMixin, other: ProcessorMixin) -> bool:
    for size in _LOOKED_AT:
        try:
            made = _made(processor, size)
        except _REFUSALS as error:
            raise ConfigError(
                f"{_SETTING}: {_name(processor.image_processor)} cannot work with these settings: {_first_line(error)}"
            ) from error
        try:
            before = _made(other, size)
        except _REFUSALS:
            return True  # it needs this one
        if made.keys() != before.keys() or not all(torch.equal(made[name], before[name]) for name in made):
            return True
    counts, others = image_tokens_of(processor), image_tokens_of(other)
    return counts is not None and others is not None and counts.of([*shapes()]) != others.of([*shapes()])


def _made(processor: ProcessorMixin, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    token = getattr(processor, "image_token", None)
    # Where no token stands for a picture (ViLT), it is given beside a question.
    text, images = ("?", Image.fromarray(noise)) if token is None else (str(token), [Image.fromarray(noise)])
    output = processor(text=[text], images=[images], return_tensors="pt")
    return {name: value for name, value in output.items() if isinstance(value, torch.Tensor)}


def _name(images: object) -> str:
    return type(images).__name__.removesuffix("Pil")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
