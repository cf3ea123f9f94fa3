"""Catalogue of the tiny families, and the saving of one as the hub would hold it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from transformers import PreTrainedModel, ProcessorMixin

from tests.support.tiny_families.gemma_like import gemma3, paligemma
from tests.support.tiny_families.idefics_like import idefics3, smolvlm
from tests.support.tiny_families.internvl import internvl
from tests.support.tiny_families.llava_like import llava, llava_next, pixtral
from tests.support.tiny_families.mllama import mllama
from tests.support.tiny_families.qwen import qwen2_5_vl, qwen2_vl, qwen3_vl
from tests.support.tiny_families.vilt import vilt, vilt_without_head


@dataclass(frozen=True, kw_only=True)
class TinyFamily:
    """A tiny model and what conversations it can take.

    Args:
        name: ours, unique.
        model_type: its `config.model_type`.
        build: from a seed to the model, in evaluation mode, and its processor.
        images: how many pictures a conversation may have.
        turns: whether a conversation may have several turns.
    """

    name: str
    model_type: str
    build: Callable[[int], tuple[PreTrainedModel, ProcessorMixin]]
    images: tuple[int, ...] = (0, 1, 2)
    turns: bool = True


_ALL: Final = (
    TinyFamily(name="llava", model_type="llava", build=llava),
    TinyFamily(name="pixtral", model_type="llava", build=pixtral),
    TinyFamily(name="llava_next", model_type="llava_next", build=llava_next),
    TinyFamily(name="smolvlm", model_type="smolvlm", build=smolvlm),
    TinyFamily(name="idefics3", model_type="idefics3", build=idefics3),
    TinyFamily(name="qwen2_vl", model_type="qwen2_vl", build=qwen2_vl),
    TinyFamily(name="qwen2_5_vl", model_type="qwen2_5_vl", build=qwen2_5_vl),
    TinyFamily(name="qwen3_vl", model_type="qwen3_vl", build=qwen3_vl),
    TinyFamily(name="mllama", model_type="mllama", build=mllama),
    TinyFamily(name="paligemma", model_type="paligemma", build=paligemma, images=(1, 2), turns=False),
    TinyFamily(name="gemma3", model_type="gemma3", build=gemma3),
    TinyFamily(name="internvl", model_type="internvl", build=internvl),
)
TINY: Final[dict[str, TinyFamily]] = {family.name: family for family in _ALL}
"""The families that generate text."""

CLASSIFIERS: Final[dict[str, TinyFamily]] = {
    "vilt": TinyFamily(name="vilt", model_type="vilt", build=vilt, images=(1,), turns=False),
    "vilt_without_head": TinyFamily(
        name="vilt_without_head", model_type="vilt", build=vilt_without_head, images=(1,), turns=False
    ),
}
"""Those that choose an answer from a list, with such a head and as they are pre-trained."""


def save(name: str, folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint folder as the hub would hold it."""
    model, processor = {**TINY, **CLASSIFIERS}[name].build(seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
