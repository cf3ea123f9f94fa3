"""A data set in ChartQA's form: charts of true public figures with questions, as local Parquet files.

    python scripts/charts/draw_charts.py --output charts --images 500 --seed 0

With `--ask tables` a chart has one question, whose answer is its table as JSON; `schema.json` is written as well.

`train.parquet`, `val.parquet` and `test.parquet` have the columns and features of HuggingFaceM4/ChartQA: image, query,
label (a list) and human_or_machine (a class label). A table of figures is drawn in one split only, so that nothing
learned by heart answers a question of another. The same seed writes the same files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

import datasets
from chart_pictures import draw
from chart_questions import Chart, Question, ask, rows_to_draw, table_of
from chart_tables import BARS, GROUPS, LINES, PIES, Table

FEATURES: Final = {
    "image": datasets.Image(),
    "query": datasets.Value("string"),
    "label": datasets.List(datasets.Value("string")),
    "human_or_machine": datasets.ClassLabel(names=["human", "machine"]),
}
TABLE_QUESTION: Final = "Give the chart's table as JSON."
_NUMBER: Final = {"type": "number"}
SCHEMA: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "unit": {"type": "string"},
        "values": {
            "type": "object",
            "additionalProperties": {"anyOf": [_NUMBER, {"type": "object", "additionalProperties": _NUMBER}]},
        },
    },
    "required": ["title", "unit", "values"],
    "additionalProperties": False,
}
_FORMS: Final = ((BARS, 5), (GROUPS, 2), (LINES, 2), (PIES, 1))
"""Tables of each form, and how many of ten charts have it."""


def tables_of_splits(random: Random) -> dict[str, list[tuple[Sequence[Table], int]]]:
    """For each split, its own tables of every form: two of bars and one of the others for val and for test."""
    splits: dict[str, list[tuple[Sequence[Table], int]]] = {"train": [], "val": [], "test": []}
    for tables, weight in _FORMS:
        mixed = random.sample(tables, len(tables))
        held = 2 if len(mixed) > 8 else 1
        parts = (mixed[2 * held :], mixed[:held], mixed[held : 2 * held])
        for split, part in zip(splits, parts, strict=True):
            splits[split].append((part, weight))
    return splits


def charts(forms: Sequence[tuple[Sequence[Table], int]], random: Random) -> Iterator[Chart]:
    """Charts without end."""
    while True:
        tables, _ = random.choices(forms, [weight for _, weight in forms])[0]
        table = random.choice(tables)
        rows = rows_to_draw(table, random)
        values = [value for row in rows for value in table.rows[row]]
        # Without a number on it, a short bar beside a long one cannot be read within five per cent.
        readable = min(values) * 3 >= max(values) and table.form != "pie"
        yield Chart(table=table, rows=rows, labelled=not readable or random.random() < 0.6)


def records(
    forms: Sequence[tuple[Sequence[Table], int]], images: int, each: int, random: Random, *, tables: bool = False
) -> Iterator[dict[str, object]]:
    """The questions of so many pictures, no picture twice; for `tables` one each."""
    seen: set[bytes] = set()
    for chart in charts(forms, random):
        if len(seen) == images:
            return
        picture = draw(chart, random)
        digest = sha256(picture).digest()
        if digest in seen:
            continue
        seen.add(digest)
        asked = [whole_table(chart)] if tables else ask(chart, random, each)
        for question in asked:
            yield {
                "image": {"bytes": picture, "path": None},
                "query": question.text,
                "label": [question.answer],
                "human_or_machine": question.asked_by,
            }


def whole_table(chart: Chart) -> Question:
    """The question for all that a chart says."""
    return Question(TABLE_QUESTION, json.dumps(table_of(chart), ensure_ascii=False), "machine")


def write(output: Path, images: int, each: int, seed: int, *, tables: bool = False) -> None:
    """Write train.parquet, val.parquet and test.parquet into `output`: eight, one and one of ten pictures."""
    output.mkdir(parents=True)
    if tables:
        (output / "schema.json").write_text(json.dumps(SCHEMA, indent=1) + "\n", encoding="utf-8")
    held = max(1, images // 10)
    counts = {"train": images - 2 * held, "val": held, "test": held}
    for split, forms in tables_of_splits(Random(seed)).items():
        rows = list(records(forms, counts[split], each, Random(f"{seed} {split}"), tables=tables))
        table = datasets.Dataset.from_list(rows, features=datasets.Features(FEATURES))
        table.to_parquet(str(output / f"{split}.parquet"))
        print(f"{split}: {counts[split]} pictures, {len(rows)} questions")


def main() -> None:
    """Parse the options and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("charts"))
    parser.add_argument("--ask", choices=("questions", "tables"), default="questions")
    parser.add_argument("--images", type=int, default=500, help="pictures in all three splits together")
    parser.add_argument("--each", type=int, default=2, help="most questions of each kind about one picture")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.images < 3:
        sys.exit("error: --images must be at least 3, one for each split.")
    if options.output.exists():
        sys.exit(f"error: {options.output} exists. Name another --output, or remove it first.")
    datasets.disable_progress_bars()
    write(options.output, options.images, options.each, options.seed, tables=options.ask == "tables")


if __name__ == "__main__":
    main()
