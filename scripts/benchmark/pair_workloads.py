"""Workloads of preference pairs: drawn scenes as pairs of answers in the hub's usual form, the same for both sides."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

from shapes import SHORT
from workloads import PHOTO, SEED, Workload, steps_of

from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.questions import PLAIN, ask, phrase
from vlm_lit.workbench.world import Scene, scene

LONG_ANSWERS: Final = (90, 110, 130)
"""Words of a long answer, up to a sentence more: 100 to 200 tokens, as many of RLAIF-V's have."""


@dataclass(frozen=True, kw_only=True)
class PairWorkload(Workload):
    """A model's shape and the pairs it sees; `questions`, `batch` and `conversations` count pairs.

    All of a run is measured: what is computed ahead of its first step belongs to its one epoch.

    Args:
        answers: a word each, or descriptions.
        precision: of the language model.
    """

    answers: Literal["short", "long"] = "short"
    precision: Literal["fp32", "nf4"] = "fp32"
    batch: int = 4
    steps: int = 4

    @property
    def whole_course(self) -> bool:
        """Always."""
        return True


GOALS: Final = (
    PairWorkload(name="short_answers", says="short answers, 256 image tokens"),
    PairWorkload(name="long_answers", says="answers of 100 to 200 tokens, 256 image tokens", answers="long"),
    PairWorkload(name="three_passes", says="short answers, 256 image tokens, 3 passes", steps=2, passes=3),
    PairWorkload(name="four_pairs", says="4 pairs an image, 256 image tokens", questions=4, batch=8, steps=2),
    PairWorkload(name="tiled_images", says="short answers, tiled images, vision-heavy", shape="smolvlm"),
    PairWorkload(name="short_answers_nf4", says="short answers, 256 image tokens, NF4", precision="nf4"),
)


def write(folder: Path, workload: PairWorkload) -> Path:
    """Write `folder/train.json` and its pictures; returns the JSON file."""
    (folder / "images").mkdir(parents=True)
    path = folder / "train.json"
    path.write_text(json.dumps(list(_rows(folder, workload))), encoding="utf-8")
    return path


def _rows(folder: Path, workload: PairWorkload) -> Iterator[dict[str, Any]]:
    written = 0
    for index in count():
        shown, random = scene(SEED, index), Random(f"pairs {index}")
        pairs = _described(index, random) if workload.answers == "long" else _short(shown, random, workload.questions)
        if len(pairs) < workload.questions:
            continue  # a bare scene
        image = f"images/{index}.jpg"
        draw(shown).resize(PHOTO).save(folder / image, quality=90)
        for place, (asked, chosen, rejected) in enumerate(pairs):
            yield {
                "id": f"{index}-{place}",
                "images": [image],
                "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": asked}]}],
                "chosen": [_answer(chosen)],
                "rejected": [_answer(rejected)],
            }
            written += 1
            if written == workload.conversations:
                return


def _answer(words: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": words}]}


def _short(shown: Scene, random: Random, pairs: int) -> list[tuple[str, str, str]]:
    """Questions with their true answer and another question's."""
    found = ask(shown, random, 2 * pairs, PLAIN)
    others = {qa.answer for qa in found}
    made = [(qa, sorted(others - {qa.answer})) for qa in found[:pairs]]
    return [(qa.question + SHORT, qa.answer, random.choice(wrong)) for qa, wrong in made if wrong]


def _described(index: int, random: Random) -> list[tuple[str, str, str]]:
    """A description, and one that goes on with another picture's."""
    true, false = (_sentences(scene(SEED, place), random) for place in (index, index + 1))
    chosen, rejected = (_of_length(said, random.choice(LONG_ANSWERS)) for said in (true, true[:4] + false))
    return [("Describe the picture.", chosen, rejected)] if chosen and rejected else []


def _sentences(shown: Scene, random: Random) -> list[str]:
    said = [f"There is {phrase(item)}." for item in shown.items]
    return said + [f"Asked {qa.question} one would say {qa.answer}." for qa in ask(shown, random, 24, PLAIN)]


def _of_length(sentences: Sequence[str], words: int) -> str:
    """Sentences until there are so many words; nothing where there are not enough."""
    said = ""
    for sentence in sentences:
        said = f"{said} {sentence}".strip()
        if len(said.split()) >= words:
            return said
    return ""


def steps(rows: list[dict[str, Any]], workload: PairWorkload, pairs_per_row: int) -> list[list[dict[str, Any]]]:
    """The pairs each optimizer step sees, in our sampler's order; within a step by the longer answer."""
    return steps_of(rows, workload, pairs_per_row, image=_image, length=_longer)


def _image(row: dict[str, Any]) -> str:
    image: str = row["images"][0]
    return image


def _longer(row: dict[str, Any]) -> int:
    return max(len(row[side][0]["content"][0]["text"]) for side in ("chosen", "rejected"))
