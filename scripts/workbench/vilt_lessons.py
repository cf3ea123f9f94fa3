"""Training rows of the workbench's ViLT: one picture with many questions, and what each word of them refers to.

Shape suffixes: B rows, T text tokens of a row, P image patches (64), L = 1 + P + T positions, D features.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import BertTokenizerFast, ViltForQuestionAnswering
from workbench_lessons import SILENT, Bytes, Meaning, meanings

from vlm_lit.workbench.base_model import IMAGE_TOKENS
from vlm_lit.workbench.questions import PLAIN, ask, plural
from vlm_lit.workbench.vilt_model import VILT_ANSWERS, classified
from vlm_lit.workbench.world import COLORS, KINDS, MAX_READING, Scene

IMAGE_POSITIONS: Final = 1 + IMAGE_TOKENS
"""ViLT puts a token of its own before the patches."""


class ViltRow(NamedTuple):
    """What the model reads about one picture, token by token, padded: each question is a segment of its own.

    `segments` counts questions from 1 and is 0 in padding; `positions` start again with each question. `starts` are the
    places of the questions' [CLS] tokens and `answers` what is to be answered there; both have -1 where there is none.
    """

    ids: list[int]
    segments: list[int]
    positions: list[int]
    meanings: list[Meaning]
    starts: list[int]
    answers: list[int]


class ViltRows:
    """Writes rows of up to `questions` questions and `tokens` tokens."""

    def __init__(self, tokenizer: BertTokenizerFast, *, questions: int, tokens: int) -> None:
        self.tokenizer, self.questions, self.tokens = tokenizer, questions, tokens
        self.known: dict[str, list[int]] = {}
        self.kinds = {self.id(word): kind for kind in KINDS for word in (kind, plural(kind))}
        self.colors = {self.id(color): color for color in COLORS}

    def id(self, word: str) -> int:
        """The token of a word of the plain language."""
        return int(self.tokenizer.convert_tokens_to_ids(word))

    def names(self) -> list[list[int]]:
        """The token of each kind, colour, lamp state and gauge reading, in the order of `PATCH_FACTS`."""
        words = (KINDS, COLORS, ("off", "on"), map(str, range(MAX_READING + 1)))
        return [[self.id(word) for word in group] for group in words]

    def encoded(self, question: str) -> list[int]:
        """The tokens of a question as the processor writes it, kept for the next time."""
        if question not in self.known:
            self.known[question] = self.tokenizer(question)["input_ids"]
        return self.known[question]

    def row(self, shown: Scene, rng: Random) -> ViltRow:
        """One row about `shown`."""
        row = ViltRow([], [], [], [], [], [])
        for qa in classified(ask(shown, rng, self.questions + self.questions // 4, PLAIN)):
            ids = self.encoded(qa.question)
            if len(row.starts) == self.questions or len(row.ids) + len(ids) > self.tokens:
                break
            row.starts.append(len(row.ids))
            row.answers.append(VILT_ANSWERS.index(qa.answer))
            row.ids.extend(ids)
            row.segments.extend([len(row.starts)] * len(ids))
            row.positions.extend(range(len(ids)))
            # Behind a place stand the question mark and [SEP].
            row.meanings.extend(meanings(shown, qa, ids, self.kinds, self.colors, behind=2))
        spare, fewer = self.tokens - len(row.ids), self.questions - len(row.starts)
        for part in (row.ids, row.segments, row.positions):
            part.extend([0] * spare)
        row.meanings.extend([SILENT] * spare)
        row.starts.extend([-1] * fewer)
        row.answers.extend([-1] * fewer)
        return row


def single_questions(rows: list[ViltRow], most: int) -> tuple[list[int], list[ViltRow]]:
    """The first `most` questions of each row as rows of their own, with the number of the row that each comes from."""
    origins, singles = [], []
    for origin, row in enumerate(rows):
        starts = [start for start in row.starts if start >= 0]
        borders = [*starts, sum(segment > 0 for segment in row.segments)][: most + 1]
        for (start, end), answer in zip(pairwise(borders), row.answers, strict=False):
            origins.append(origin)
            segments = [1] * (end - start)
            part = (row.ids[start:end], segments, row.positions[start:end], row.meanings[start:end])
            singles.append(ViltRow(*part, [0], [answer]))
    longest = max(len(row.ids) for row in singles)
    for row in singles:
        spare = longest - len(row.ids)
        for tokens in (row.ids, row.segments, row.positions):
            tokens.extend([0] * spare)
        row.meanings.extend([SILENT] * spare)
    return origins, singles


def seen_by_branches(segments_BT: Tensor) -> Tensor:
    """Which position sees which [B, L, L] bool: the picture sees itself, a question the picture and itself."""
    segments_BL = torch.nn.functional.pad(segments_BT, (IMAGE_POSITIONS, 0), value=-1)
    same = segments_BL[:, :, None] == segments_BL[:, None, :]
    return same | (segments_BL == -1)[:, None, :]


def seen_by_all(segments_BT: Tensor) -> Tensor:
    """Which position sees which [B, L, L] bool, as in ViLT itself: all see everything but padding."""
    seen_BL = torch.nn.functional.pad(segments_BT > 0, (IMAGE_POSITIONS, 0), value=True)
    return seen_BL[:, None, :].expand(-1, seen_BL.shape[1], -1)


def embed_picture(model: ViltForQuestionAnswering, pixels_BCHW: Tensor) -> Tensor:
    """The patches [B, 1 + P, D] that enter ViLT's first layer, in their own order instead of a random one."""
    parts = model.vilt.embeddings
    patches_BPD = parts.patch_embeddings(pixels_BCHW).flatten(2).transpose(1, 2)
    first = parts.cls_token.expand(len(patches_BPD), -1, -1)
    places: Tensor = parts.position_embeddings + parts.token_type_embeddings.weight[1]
    return torch.cat([first, patches_BPD], dim=1) + places


def embed_text(model: ViltForQuestionAnswering, ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
    """The words [B, T, D] that enter ViLT's first layer."""
    parts = model.vilt.embeddings.text_embeddings
    words_BTD: Tensor = parts.word_embeddings(ids_BT) + parts.token_type_embeddings.weight[0]
    words_BTD = parts.LayerNorm(words_BTD + parts.position_embeddings(positions_BT))
    kind: Tensor = model.vilt.embeddings.token_type_embeddings.weight[0]
    return words_BTD + kind


def states(model: ViltForQuestionAnswering, embedded_BLD: Tensor, seen_BLL: Tensor | None, layers: int) -> list[Tensor]:
    """The states [B, L, D] behind each of the first `layers` layers; None shows every position to every other."""
    mask = None
    if seen_BLL is not None:
        mask = torch.zeros(seen_BLL.shape).masked_fill(~seen_BLL, torch.finfo(torch.float32).min)[:, None]
    found, state = [], embedded_BLD
    for layer in model.vilt.encoder.layer[:layers]:
        state = layer(state, mask)[0]
        found.append(state)
    return found


def answer_logits(model: ViltForQuestionAnswering, cls_SD: Tensor) -> Tensor:
    """The classifier's logits from the last layer's states at the [CLS] tokens, as ViLT makes them."""
    logits: Tensor = model.classifier(torch.tanh(model.vilt.pooler.dense(model.vilt.layernorm(cls_SD))))
    return logits


def pixel_values(pictures: Bytes) -> Tensor:
    """uint8 [B, H, W, 3] -> the model's float32 [B, 3, H, W] in -1..1, as the processor makes it."""
    scaled = torch.from_numpy(np.ascontiguousarray(pictures)).float() / 127.5 - 1
    return scaled.permute(0, 3, 1, 2).contiguous()
