"""Workloads of the benchmark: questions about drawn scenes as LLaVA-style JSON, the same for both sides."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any, Final

from shapes import SHORT

from vlm_lit.data.sampler import StepSampler
from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.questions import PLAIN, ask, phrase
from vlm_lit.workbench.world import Scene, scene

PHOTO: Final = (640, 480)
"""Width and height of a picture on disk, as most of COCO's are: decoding and resizing cost what they cost there."""
SEED: Final = 7


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A model's shape and the data it sees.

    Args:
        name: what results are filed under.
        says: what it stands for, in a table's words.
        shape: llava or smolvlm.
        image_tokens: tokens of a picture in the LLaVA shape.
        questions: questions about each picture.
        described: whether half of the answers are descriptions of all lengths instead of a word.
        batch: conversations an optimizer step sees.
        steps: optimizer steps measured, behind one that warms up; with `passes`, those of a pass.
        passes: how often the data is seen; more than one measures all of it, the first step included.
    """

    name: str
    says: str
    shape: str = "llava"
    image_tokens: int = 256
    questions: int = 1
    described: bool = False
    batch: int = 20
    steps: int = 3
    passes: int = 1

    @property
    def whole_course(self) -> bool:
        """Whether all of a run is measured, the first step and what comes before it included."""
        return self.passes > 1

    @property
    def total_steps(self) -> int:
        """Optimizer steps of a run, warming up included."""
        return self.steps * self.passes if self.whole_course else self.steps + 1

    @property
    def conversations(self) -> int:
        """Conversations in the data."""
        return self.batch * (self.steps if self.whole_course else self.steps + 1)


GOALS: Final = (
    Workload(name="five_questions", says="5 questions an image, 256 image tokens", questions=5),
    Workload(name="mixed_lengths", says="1 question an image, mixed lengths", described=True, batch=16),
    Workload(
        name="three_passes",
        says="tiled images, vision-heavy, 1 question an image, 3 passes",
        shape="smolvlm",
        batch=8,
        steps=2,
        passes=3,
    ),
)


def growth(questions: int, image_tokens: int) -> Workload:
    """A point of the plot of how cost grows; twice the warm-up's conversations, as a point needs only to be near."""
    return Workload(
        name=f"q{questions}_t{image_tokens}",
        says=f"{questions} questions, {image_tokens} image tokens",
        image_tokens=image_tokens,
        questions=questions,
        batch=10,
        steps=2,
    )


def write(folder: Path, workload: Workload) -> Path:
    """Write `folder/train.json` and its pictures; returns the JSON file."""
    (folder / "images").mkdir(parents=True)
    rows = list(_rows(folder, workload))
    path = folder / "train.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def _rows(folder: Path, workload: Workload) -> Iterator[dict[str, object]]:
    written = 0
    for index in count():
        shown, random = scene(SEED, index), Random(f"benchmark {index}")
        asked = [(qa.question + SHORT, qa.answer) for qa in ask(shown, random, workload.questions, PLAIN)]
        if len(asked) < workload.questions:
            continue  # a bare scene
        if workload.described and index % 2:
            asked = [("Describe the picture.", _description(shown, random))]
        image = f"images/{index}.jpg"
        draw(shown).resize(PHOTO).save(folder / image, quality=90)
        for place, (question, answer) in enumerate(asked):
            turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
            yield {"id": f"{index}-{place}", "image": image, "conversations": turns}
            written += 1
            if written == workload.conversations:
                return


def _description(shown: Scene, random: Random) -> str:
    """One sentence to sixteen."""
    said = [f"There is {phrase(item)}." for item in shown.items]
    said += [f"Asked {qa.question} one would say {qa.answer}." for qa in ask(shown, random, 16, PLAIN)]
    return " ".join(said[: random.choice((1, 2, 3, 5, 8, 16))])


Row = dict[str, Any]


def _letters(row: Row) -> int:
    return sum(len(turn["value"]) for turn in row["conversations"])


def steps_of(
    rows: list[Row],
    workload: Workload,
    questions_per_row: int,
    *,
    image: Callable[[Row], str] = itemgetter("image"),
    length: Callable[[Row], int] = _letters,
) -> list[list[Row]]:
    """The rows each optimizer step sees: the order of our own sampler, which the other side is given as its own.

    Within a step, rows stand from short to long, so that a side that cuts a step into padded batches pads little.

    Args:
        rows: the workload's.
        workload: says how many a step sees.
        questions_per_row: most rows about one picture that ours has follow one another.
        image: a row's picture.
        length: how long a row is, in any unit.
    """
    sampler = StepSampler(
        len(rows),
        effective_batch=workload.batch,
        steps=workload.total_steps,
        seed=SEED,
        groups=[image(row) for row in rows],
        most=questions_per_row,
    )
    return [sorted((rows[i] for i in sampler.indices(k)), key=length) for k in range(workload.total_steps)]
