"""The workbench's classifier base: a ViLT of under two million parameters, shipped inside the package.

Its parts are the field's: transformers' own ViltForQuestionAnswering with a real ViltProcessor, only small. It reads
pictures of 112 x 112 pixels as 8 x 8 patches and chooses one of fifty answers of the workbench's plain language.
`scripts/workbench/make_workbench_vilt.py` trains it; nothing here does. Sizes respect what 4-bit loading asks for:
every linear layer below the classifier has sides that are multiples of 64.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from random import Random
from string import ascii_lowercase, digits, punctuation
from typing import Final

import torch
from transformers import BertTokenizerFast, ViltConfig, ViltForQuestionAnswering, ViltImageProcessorPil, ViltProcessor

from vlm_lit.workbench.questions import PLAIN, QA, ask
from vlm_lit.workbench.world import COLORS, GRID, KINDS, scene

VILT_IMAGE_SIDE: Final = 112
VILT_PATCH: Final = 14
VILT_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""BERT's special tokens; their ids are 0, 1, 2, 3, 4."""
VILT_TEXT_TOKENS: Final = 40

_PLACES: Final = tuple(f"row {row}, column {column}" for row in range(1, GRID + 1) for column in range(1, GRID + 1))
VILT_ANSWERS: Final = ("yes", "no", *map(str, range(10)), *COLORS, *KINDS, "on", "off", "nothing", *_PLACES)
"""The answer vocabulary, in the order of the classifier's rows: every short answer of the plain language."""

_COMMON_WORDS: Final = (
    "an at be been being big both but by can contain contains could did different each else for front had has he her "
    "here his if into its just kind large less like line long look made make man may me more most much must my near "
    "name next nothing object objects one only other our out over part people person photo picture put said same say "
    "she should side small so some such take than their them then these they this those time top two type under up us "
    "use used very want was way we were when while who whose why will with without woman word work would your"
)
"""Words that people's questions have and the plain language has not. The base has never seen them."""


def vilt_base_path() -> Path:
    """The shipped ViLT's folder, for reading."""
    return Path(str(files("vlm_lit.workbench") / "vilt_base"))


def copy_vilt_base(directory: Path) -> Path:
    """Copy the shipped ViLT into `directory` (made where missing) and return it.

    `ViltProcessor.from_pretrained` and `ViltForQuestionAnswering.from_pretrained` load the copy.
    """
    shutil.copytree(vilt_base_path(), directory, dirs_exist_ok=True)
    return directory


def classified(asked: list[QA]) -> list[QA]:
    """Those of the questions whose answer is in the vocabulary; descriptions and JSON are not."""
    return [qa for qa in asked if qa.answer in VILT_ANSWERS and qa.question_type != "describe"]


def build_vilt_tokenizer(seed: int) -> BertTokenizerFast:
    """A WordPiece tokenizer: whole words of the plain language and of common English, and letters for all others."""
    characters = [*ascii_lowercase, *digits, *punctuation]
    pieces = [*characters, *(f"##{character}" for character in (*ascii_lowercase, *digits))]
    words = sorted({*_plain_words(seed), *_COMMON_WORDS.split()} - set(characters))
    vocabulary = {token: number for number, token in enumerate((*VILT_SPECIAL, *pieces, *words))}
    return BertTokenizerFast(vocab=vocabulary, do_lower_case=True, model_max_length=VILT_TEXT_TOKENS)


def _plain_words(seed: int) -> Iterator[str]:
    """Every word of the questions about many scenes."""
    for index in range(2000):
        for qa in ask(scene(seed, index), Random(f"words {seed}/{index}"), 8, PLAIN):
            yield from (word for word in qa.question.replace("?", "").replace(".", "").replace(",", "").split())


def build_vilt_processor(tokenizer: BertTokenizerFast) -> ViltProcessor:
    """The processor: the shortest edge becomes 112 pixels, and both sides whole patches."""
    images = ViltImageProcessorPil(
        size={"shortest_edge": VILT_IMAGE_SIDE},
        size_divisor=VILT_PATCH,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return ViltProcessor(image_processor=images, tokenizer=tokenizer)


def build_vilt_config(vocabulary: int) -> ViltConfig:
    """The architecture; `vocabulary` is the number of tokens."""
    return ViltConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        num_hidden_layers=8,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=VILT_TEXT_TOKENS,
        image_size=VILT_IMAGE_SIDE,
        patch_size=VILT_PATCH,
        id2label=dict(enumerate(VILT_ANSWERS)),
        label2id={answer: number for number, answer in enumerate(VILT_ANSWERS)},
        tie_word_embeddings=False,
    )


def build_vilt(vocabulary: int, seed: int) -> ViltForQuestionAnswering:
    """The untrained model in float32, its weights drawn from `seed`."""
    torch.manual_seed(seed)
    return ViltForQuestionAnswering(build_vilt_config(vocabulary))
