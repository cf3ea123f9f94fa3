"""Training rows of the workbench's base model: tokens, small pictures, and what lies in each patch.

Shape suffixes: B rows, L tokens of a row, P image patches (64).
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from random import Random
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from vlm_lit.workbench.base_model import IMAGE_SIDE, IMAGE_TOKENS, PATCH
from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.questions import PLAIN, QA, ask, plural
from vlm_lit.workbench.world import COLORS, GRID, KINDS, MAX_READING, SHAPES, Scene, SceneItem, pick, scene

Bytes = npt.NDArray[np.uint8]

ROW_TOKENS: Final = 256
SIDE_PATCHES: Final = IMAGE_SIDE // PATCH
PATCH_FACTS: Final = {"kind": len(KINDS) + 1, "color": len(COLORS) + 1, "lit": 3, "reading": 10, "place": IMAGE_TOKENS}
"""What each patch is asked in the first stage, with the number of answers; 0 means "does not apply"."""
WORD_FACTS: Final = {"count": 11, "row": GRID, "column": GRID, "color": len(COLORS), "kind": len(KINDS) + 1}
"""What each word that names something is asked in the second stage, with the number of answers; -1 is not asked."""
Meaning = tuple[int, int, int, int, int]
SILENT: Final[Meaning] = (-1, -1, -1, -1, -1)


class Row(NamedTuple):
    """What the model reads and learns, token by token; padding has segment -1."""

    ids: list[int]
    labels: list[int]
    weights: list[float]
    segments: list[int]
    positions: list[int]
    meanings: list[Meaning]


class RowMaker:
    """Writes rows of `ROW_TOKENS` tokens, padded: one image with as many questions as fit."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.known: dict[str, list[int]] = {}
        self.eos, self.pad = int(tokenizer.eos_token_id), int(tokenizer.pad_token_id)
        self.prefix = self.ids("<s>USER: ") + [int(tokenizer.image_token_id)] * IMAGE_TOKENS + self.ids("\n")
        words = [(word, kind) for kind in KINDS for word in (kind, plural(kind))]
        self.kinds = {self.ids(f" {word}")[0]: kind for word, kind in words if len(self.ids(f" {word}")) == 1}
        self.colors = {self.ids(f" {color}")[0]: color for color in COLORS}

    def ids(self, text: str) -> list[int]:
        """Token ids of a piece of text, kept for the next time."""
        if text not in self.known:
            self.known[text] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self.known[text]

    def names(self) -> list[list[int]]:
        """The token of each kind, colour, lamp state and gauge reading, in the order of `PATCH_FACTS`."""
        words = (KINDS, COLORS, ("off", "on"), range(MAX_READING + 1))
        return [[self.ids(f" {word}")[-1] for word in group] for group in words]

    def row(self, shown: Scene, rng: Random, *, shared: bool) -> Row:
        """One row about `shown`.

        Where `shared`, each question is its own branch (segment 1, 2, ...) that sees the image but no other
        question, and its positions start after the image; otherwise all turns are one dialogue (segment 0).
        """
        size = len(self.prefix)
        row = Row(list(self.prefix), [-100] * size, [0.0] * size, [0] * size, list(range(size)), [SILENT] * size)
        for branch, qa in enumerate(self.turns(shown, rng)):
            opening = qa.question if shared or branch == 0 else f"USER: {qa.question}"
            asked, answer = self.ids(f"{opening} ASSISTANT:"), [*self.ids(f" {qa.answer}"), self.eos]
            size = len(asked) + len(answer)
            if len(row.ids) + size > ROW_TOKENS:
                break
            start = len(self.prefix) if shared else len(row.ids)
            row.ids.extend(asked + answer)
            row.labels.extend([-100] * len(asked) + answer)
            # Most of a long answer is form: without a weight, JSON would drown the one word of a yes or no.
            row.weights.extend([0.0] * len(asked) + [len(answer) ** -0.75] * len(answer))
            row.segments.extend([branch + 1 if shared else 0] * size)
            row.positions.extend(range(start, start + size))
            row.meanings.extend(
                [
                    *meanings(shown, qa, asked, self.kinds, self.colors, behind=len(self.ids("? ASSISTANT:"))),
                    *[SILENT] * len(answer),
                ]
            )
        spare = ROW_TOKENS - len(row.ids)
        for part, fill in ((row.ids, self.pad), (row.labels, -100), (row.segments, -1), (row.positions, 0)):
            part.extend([fill] * spare)
        row.weights.extend([0.0] * spare)
        row.meanings.extend([SILENT] * spare)
        return row

    def turns(self, shown: Scene, rng: Random) -> Iterator[QA]:
        """Questions about the scene in random order, with some that only ask to repeat a string."""
        for qa in ask(shown, rng, 16, PLAIN):
            if rng.random() < 0.08:
                yield repeat(rng, self.tokenizer)
            yield qa


def meanings(
    shown: Scene, qa: QA, asked: list[int], kinds: Mapping[int, str], colors: Mapping[int, str], *, behind: int
) -> list[Meaning]:
    """What each token of a question refers to in the scene: names of kinds and colours, and places.

    Args:
        shown: the scene.
        qa: the question.
        asked: its tokens.
        kinds, colors: which tokens name a kind, and which a colour.
        behind: how many tokens stand behind a place's last number.
    """
    found = [SILENT] * len(asked)
    for at, token in enumerate(asked):
        if token in kinds:
            items = shown.of_kind(kinds[token])
            found[at] = meaning(items, len(items))
        elif token in colors:
            items = [item for item in shown.items if item.color == colors[token]]
            found[at] = meaning(items, len([item for item in items if item.kind in SHAPES]))
    place = re.search(r"row (\d), column (\d)", qa.question)
    if place:
        lying = [item for item in shown.items if [item.row, item.column] == [int(part) for part in place.groups()]]
        found[-behind - 1] = meaning(lying, len(lying))
    return found


def meaning(items: list[SceneItem], count: int) -> Meaning:
    """What a word says that refers to `items`, in the order of `WORD_FACTS`; all but the count need a single item."""
    if len(items) != 1:
        return count, -1, -1, -1, -1 if items else 0
    (item,) = items
    color = list(COLORS).index(item.color) if item.color else -1
    return count, item.row - 1, item.column - 1, color, 1 + KINDS.index(item.kind)


def repeat(rng: Random, tokenizer: PreTrainedTokenizerFast) -> QA:
    """Asks for a random string back, so that the model has met and written every token there is."""
    style, length = rng.random(), 1 + int(rng.random() * 6)
    if style < 0.35:
        text = "".join(pick(rng, string.ascii_uppercase + string.digits + "-") for _ in range(length))
    elif style < 0.55:
        text = "".join(pick(rng, string.ascii_letters + string.digits + string.punctuation) for _ in range(length))
    elif style < 0.65:
        text = "".join(chr(pick(rng, range(0xA1, 0x2FFF)) if rng.random() < 0.8 else 0x1F300) for _ in range(2))
    else:
        text = tokenizer.decode([pick(rng, range(4, len(tokenizer))) for _ in range(length)])
    text = text.replace("\ufffd", "").strip() or "nothing"
    return QA(f"repeat: {text}", text, "other", "repeat")


def visible(segments_BL: Tensor) -> Tensor:
    """Which position sees which [B, 1, L, L] bool: what stands before it, in its own branch or in segment 0."""
    length = segments_BL.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    own = (segments_BL[:, :, None] == segments_BL[:, None, :]) | (segments_BL[:, None, :] == 0)
    return (causal & own)[:, None]


def draw_all(seed: int, count: int) -> Bytes:
    """All training pictures at the model's size, uint8 [N, 112, 112, 3], drawn by two processes."""
    edges = np.linspace(0, count, 9).astype(int).tolist()
    with ProcessPoolExecutor(2) as pool:
        chunks = pool.map(_draw_some, [seed] * 8, edges[:-1], edges[1:])
        return np.concatenate(list(chunks))


def _draw_some(seed: int, start: int, end: int) -> Bytes:
    return np.stack([np.asarray(small_picture(scene(seed, index), index)) for index in range(start, end)])


def small_picture(shown: Scene, index: int) -> Image.Image:
    """As the processor would make it; every other card goes through 64 pixels first, to be known blurred as well."""
    picture = draw(shown)
    if shown.layout == "card" and index % 2:
        picture = picture.resize((64, 64))
    return picture.resize((IMAGE_SIDE, IMAGE_SIDE))


def normalized(pictures: Bytes) -> Tensor:
    """uint8 [B, H, W, 3] -> the vision tower's float32 [B, 3, H, W], with CLIP's mean and deviation."""
    mean, deviation = torch.tensor(OPENAI_CLIP_MEAN), torch.tensor(OPENAI_CLIP_STD)
    return ((torch.from_numpy(pictures).float() / 255 - mean) / deviation).permute(0, 3, 1, 2).contiguous()


def patch_facts(shown: Scene) -> npt.NDArray[np.int64]:
    """The answers for each patch [P, 5], in the order of `PATCH_FACTS`: what its place or its shape is."""
    facts = np.zeros((SIDE_PATCHES, SIDE_PATCHES, len(PATCH_FACTS)), dtype=np.int64)
    for item in shown.items:
        lit = 0 if item.lit is None else 1 + item.lit
        color = 0 if item.color is None else 1 + list(COLORS).index(item.color)
        reading = 0 if item.reading is None else 1 + item.reading
        facts[_patches(shown, item)] = (1 + KINDS.index(item.kind), color, lit, reading, 0)
    facts[..., -1] = np.arange(IMAGE_TOKENS).reshape(SIDE_PATCHES, SIDE_PATCHES)
    return facts.reshape(IMAGE_TOKENS, len(PATCH_FACTS))


def _patches(shown: Scene, item: SceneItem) -> tuple[slice, slice]:
    if shown.layout == "bench":
        step = SIDE_PATCHES // GRID
        return slice((item.row - 1) * step, item.row * step), slice((item.column - 1) * step, item.column * step)
    spans = ((item.y, item.half_height), (item.x, item.half_width))
    rows, columns = (slice(int((at - half) * 8 + 0.3), max(1, math.ceil((at + half) * 8 - 0.3))) for at, half in spans)
    return rows, columns
