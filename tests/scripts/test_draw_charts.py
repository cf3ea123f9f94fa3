"""Tests of the drawn charts: ChartQA's form, right answers, splits that share nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import datasets
import pytest
from chart_questions import Chart, ask, shown, title_of
from chart_tables import BARS, GROUPS, LINES, PIES, Table
from draw_charts import charts, tables_of_splits, write

from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.data.images.images import load_images
from vlm_lit.data.records.records import read_records
from vlm_lit.metrics.json_fields import JsonFields
from vlm_lit.metrics.rules import Answer
from vlm_lit.metrics.summary import judged_item, summarised
from vlm_lit.schema import Conversation

EVERY = (*BARS, *GROUPS, *LINES, *PIES)
SPLITS = ("train", "val", "test")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve charts."""
    folder = tmp_path_factory.mktemp("drawn") / "charts"
    write(folder, images=12, each=2, seed=5)
    return folder


def read(path: Path, split: str) -> list[Conversation]:
    """The questions as the ChartQA config reads them."""
    columns = {"question": "query", "answers": "label"}
    records = read_records(path, split=split, columns=columns)
    return [to_conversation(r, requires_answer=True, group_fields=["human_or_machine"]) for r in records]


def test_the_files_are_in_chartqas_form(drawn: Path) -> None:
    table = datasets.Dataset.from_parquet(str(drawn / "train.parquet"))
    assert table.features == {
        "image": datasets.Image(),
        "query": datasets.Value("string"),
        "label": datasets.List(datasets.Value("string")),
        "human_or_machine": datasets.ClassLabel(names=["human", "machine"]),
    }
    for split in SPLITS:
        for source in (drawn / f"{split}.parquet", drawn):
            asked = read(source, split)
            assert {c.groups["human_or_machine"] for c in asked} == {"human", "machine"}
    (picture,) = load_images(asked[0])
    assert min(picture.size) > 300


def test_the_splits_share_no_picture(drawn: Path) -> None:
    pictures = [{c.images[0].data for c in read(drawn / f"{split}.parquet", split)} for split in SPLITS]
    assert [len(found) for found in pictures] == [10, 1, 1]
    assert len(set.union(*pictures)) == 12


@pytest.mark.parametrize("seed", range(5))
def test_the_splits_share_no_table(seed: int) -> None:
    splits = tables_of_splits(Random(seed))
    titles = [table.title for forms in splits.values() for tables, _ in forms for table in tables]
    assert sorted(titles) == sorted(table.title for table in EVERY)
    assert all(tables for forms in splits.values() for tables, _ in forms)


def test_the_same_seed_writes_the_same_files(drawn: Path, tmp_path: Path) -> None:
    write(tmp_path / "again", images=12, each=2, seed=5)
    write(tmp_path / "other", images=12, each=2, seed=6)
    for split in SPLITS:
        assert (tmp_path / "again" / f"{split}.parquet").read_bytes() == (drawn / f"{split}.parquet").read_bytes()
        assert (tmp_path / "other" / f"{split}.parquet").read_bytes() != (drawn / f"{split}.parquet").read_bytes()


# By hand, for three planets of 10, 5 and 2.5.
ANSWERS = {
    "What is the mass of Ay?": "10",
    "What is the mass of Be?": "5",
    "What is the mass of Ce?": "2.5",
    "Which planet has the greatest mass?": "Ay",
    "Which planet has the smallest mass?": "Ce",
    "Which planet has the second greatest mass?": "Be",
    "Is the mass of Ay greater than the mass of Be?": "Yes",
    "Is the mass of Be greater than the mass of Ay?": "No",
    "Is the mass of Ay greater than the mass of Ce?": "Yes",
    "Is the mass of Ce greater than the mass of Ay?": "No",
    "Is the mass of Be greater than the mass of Ce?": "Yes",
    "Is the mass of Ce greater than the mass of Be?": "No",
    "How many bars are above 8?": "1",
    "How many bars are above 4?": "2",
    "What is the difference between the highest and the lowest value?": "7.5",
    "What is the sum of the mass of Ay and of Be?": "15",
    "What is the sum of the mass of Be and of Ay?": "15",
    "What is the sum of the mass of Ay and of Ce?": "12.5",
    "What is the sum of the mass of Ce and of Ay?": "12.5",
    "What is the sum of the mass of Be and of Ce?": "7.5",
    "What is the sum of the mass of Ce and of Be?": "7.5",
    "What is the ratio of the mass of Ay to that of Be?": "2",
    "What is the ratio of the mass of Be to that of Ay?": "0.5",
    "What is the ratio of the mass of Ay to that of Ce?": "4",
    "What is the ratio of the mass of Ce to that of Ay?": "0.25",
    "What is the ratio of the mass of Be to that of Ce?": "2",
    "What is the ratio of the mass of Ce to that of Be?": "0.5",
}
PLANETS = Table(
    form="bars", title="T", quantity="mass", unit="kg", row="planet", source="S", text="Ay 10, Be 5, Ce 2.5"
)


def test_the_answers_are_those_worked_out_by_hand() -> None:
    chart = Chart(table=PLANETS, rows=("Be", "Ay", "Ce"), labelled=True)
    asked = {q.text: q.answer for seed in range(300) for q in ask(chart, Random(seed), each=9)}
    assert asked == ANSWERS


def test_what_needs_exact_values_is_not_asked_where_none_are_printed() -> None:
    chart = Chart(table=PLANETS, rows=("Be", "Ay", "Ce"), labelled=False)
    texts = {q.text for seed in range(50) for q in ask(chart, Random(seed), each=9) if q.asked_by == "human"}
    assert texts
    assert not any(word in text for text in texts for word in ("sum", "ratio", "difference"))


def test_values_are_left_out_only_where_bars_can_be_read() -> None:
    drawn = charts(tables_of_splits(Random(1))["train"], Random(1))
    bare = [chart for chart, _ in zip(drawn, range(300), strict=False) if not chart.labelled]
    assert bare
    for chart in bare:
        values = [v for series in range(len(chart.table.series)) for v in chart.values(series)]
        assert min(values) * 3 >= max(values)
        assert chart.table.form != "pie"


@pytest.mark.parametrize("table", EVERY, ids=lambda table: table.title)
def test_the_tables_are_whole(table: Table) -> None:
    assert len(table.rows) == len(table.text.split(",")) >= 3
    assert all(len(values) == len(table.series) for values in table.rows.values())
    if table.form == "pie":
        assert sum(value for (value,) in table.rows.values()) == 100
    if table.form == "line":
        assert [int(row) for row in table.rows] == sorted(map(int, table.rows))
    assert ("{series}" in table.quantity) == (len(table.series) > 1)


def test_numbers_are_written_as_answers_have_them() -> None:
    values = next(iter(PLANETS.rows.values())) + PLANETS.rows["Ce"]
    assert [shown(value) for value in (*values, values[0] / 3, values[0] * 1000)] == ["10", "2.5", "3.33", "10000"]


def test_a_table_keeps_its_schema_and_holds_the_figures(tmp_path: Path) -> None:
    write(tmp_path / "tables", images=12, each=2, seed=5, tables=True)
    judge = JsonFields(schema=str(tmp_path / "tables" / "schema.json"), rules="values=number")
    assert judge.named == ("values", "title", "unit")
    figures = {title_of(row): values for table in EVERY for row, values in table.rows.items()}
    for split, n in (("train", 10), ("val", 1), ("test", 1)):
        asked = read(tmp_path / "tables", split)
        assert len(asked) == n
        for one in asked:
            (text,) = one.references
            found = summarised(judge, [judged_item(judge, Answer(text, [text]), one.id)]).whole.values
            assert (found["schema"], found["all_right"], found["field/values"]) == (1, 1, 1)
            values = json.loads(text)["values"]
            assert len(values) >= 3
            assert values.keys() <= figures.keys()
