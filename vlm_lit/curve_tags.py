"""Tags of logged figures on TensorBoard's page, and the logged name that each tag stands for.

TensorBoard's first page is grouped by what stands before a tag's first slash, groups and cards in alphabetical order.
For the page to begin with the loss, the learning rates and the validation's scores, the other figures are in groups
that come later in the alphabet. Everything else that reads names (monitors, other loggers, results.json) has
`split/name` as it was logged.
"""

from __future__ import annotations

import re
from typing import Final

_OPTIONS: Final = re.compile(r"\[.*?\]")  # of a metric; a slash in them parts no group
_OF_THE_STEP: Final = frozenset(
    {
        "gradient_norm",
        "micro_batch",
        "samples_per_second",
        "tokens_per_second",
        "data_wait_share",
        "rank_spread",
        "peak_memory_gib",
        "over_length_dropped",
        "over_length_changed",
    }
)
_WATCHED, _PICTURES, _PER_GROUP, _TESTED = "watch", "val_images", "val_per_group", "zz_test"
_SPLITS: Final = {_PICTURES: "val", _PER_GROUP: "val", _TESTED: "test"}


def scalar_tag(name: str) -> str:
    """The tag of a logged figure: `train/gradient_norm` is at `watch/gradient_norm`.

    `val/vqa_accuracy/number` is at `val_per_group/vqa_accuracy/number`; those of `test`, a point each, come last.
    """
    split, _, rest = name.partition("/")
    if split == "train" and rest in _OF_THE_STEP:
        return f"{_WATCHED}/{rest}"
    if split == "val" and "/" in _OPTIONS.sub("", rest):
        return f"{_PER_GROUP}/{rest}"
    return f"{_TESTED}/{rest}" if split == "test" and rest else name


def picture_tag(name: str) -> str:
    """The tag of a picture: `val/confusion` is at `val_images/confusion`."""
    split, _, rest = name.partition("/")
    group = {"val": _PICTURES, "test": _TESTED}.get(split, split)
    return f"{group}/{rest}"


def logged_as(tag: str) -> str:
    """The name of the figure or picture at a tag; a tag of an older file is that name."""
    group, slash, rest = tag.partition("/")
    if group == _WATCHED and rest in _OF_THE_STEP:
        return f"train/{rest}"
    return f"{_SPLITS.get(group, group)}{slash}{rest}"
