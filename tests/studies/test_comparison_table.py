"""Two runs' predictions, read strictly, aligned by id, and laid out."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from vlm_lit.schema import Prediction, VlmLitError
from vlm_lit.studies.statistics import mean_interval, paired_difference
from vlm_lit.studies.tables import ComparisonRow, comparison_rows, comparison_table, read_predictions

ROW = {
    "id": "q1",
    "image": "cat.png",
    "image_id": "7",
    "question": "What colour?",
    "references": ["red"],
    "prediction": "blue",
    "score": 0.3,
    "groups": {"answer_type": "other"},
}


def prediction(id_: str, score: float | None, *, image_id: str | None = None, **groups: str) -> Prediction:
    return Prediction(
        id=id_,
        image=None,
        image_id=image_id,
        question="?",
        references=("red",),
        prediction="red",
        score=score,
        groups=groups,
    )


def run(*scores: float) -> list[Prediction]:
    """Two questions an image; numbers first, then the rest; colour questions are all about image 0."""
    return [
        prediction(
            f"q{index}",
            score,
            image_id=f"image {index // 2}",
            answer_type="number" if index < 4 else "other",
            **({"question_type": "colour"} if index < 2 else {}),
        )
        for index, score in enumerate(scores)
    ]


BASE, TUNED = run(0, 0, 0, 1, 0, 0.3, 0, 1), run(1, 0, 1, 1, 0.9, 1, 1, 1)


def written(folder: Path, *lines: str) -> Path:
    path = folder / "predictions.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    items = [*BASE, dataclasses.replace(BASE[0], id="unscored", score=None, image="cat.png", question="\u2028 é")]
    path = written(tmp_path, *(json.dumps(dataclasses.asdict(item)) for item in items))
    assert read_predictions(path) == items
    assert read_predictions(str(path)) == items


BROKEN: list[tuple[str, str]] = [
    ('{"id": "q2", ', "is not JSON"),
    ("", "is not JSON"),
    ("[1]", "found list"),
    (json.dumps({"id": "q2"}), "needs the fields id, image, image_id, question, .* found id"),
    (json.dumps({**ROW, "id": "q2", "extra": 1}), "found id, .*, extra"),
    (json.dumps(ROW), "the id 'q1' already stands on line 1"),
]
WRONG_VALUES: list[Mapping[str, object]] = [
    {"id": 2},
    {"image": 2},
    {"image_id": 7},
    {"question": None},
    {"references": "red"},
    {"references": [1]},
    {"prediction": None},
    {"score": 57},
    {"score": "0.3"},
    {"score": True},
    {"score": float("nan")},
    {"groups": {"answer_type": 1}},
    {"groups": ["other"]},
]


@pytest.mark.parametrize(("line", "message"), BROKEN)
def test_a_broken_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = written(tmp_path, json.dumps(ROW), line)
    with pytest.raises(VlmLitError, match=rf"predictions\.jsonl, line 2: .*{message}"):
        read_predictions(path)


@pytest.mark.parametrize("change", WRONG_VALUES, ids=str)
def test_a_wrong_value_is_named(tmp_path: Path, change: Mapping[str, object]) -> None:
    path = written(tmp_path, json.dumps(ROW), json.dumps({**ROW, "id": "q2", **change}))
    with pytest.raises(VlmLitError, match=rf"line 2: {next(iter(change))} = .* cannot be"):
        read_predictions(path)


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(VlmLitError, match="line 1: is not JSON"):
        read_predictions(path)


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VlmLitError, match=r"nowhere\.jsonl: cannot be read"):
        read_predictions(tmp_path / "nowhere.jsonl")
    with pytest.raises(VlmLitError, match="holds no predictions"):
        read_predictions(written(tmp_path))


def test_rows_are_overall_then_answer_types_then_question_types() -> None:
    rows = comparison_rows(BASE, TUNED)
    assert [(row.name, row.n) for row in rows] == [
        ("overall", 8),
        ("answer_type/number", 4),
        ("answer_type/other", 4),
        ("question_type/colour", 2),
    ]
    assert [row.base for row in rows] == pytest.approx([2.3 / 8, 0.25, 1.3 / 4, 0])
    assert [row.tuned for row in rows] == pytest.approx([6.9 / 8, 0.75, 3.9 / 4, 0.5])


def test_intervals_are_clustered_by_image_and_the_difference_is_tuned_minus_base() -> None:
    base, tuned = [item.score or 0.0 for item in BASE], [item.score or 0.0 for item in TUNED]
    images = [0, 0, 1, 1, 2, 2, 3, 3]
    expected = mean_interval(base, images), mean_interval(tuned, images), paired_difference(tuned, base, images)
    assert comparison_rows(BASE, TUNED)[0].intervals == expected


def test_without_an_image_each_question_is_its_own_cluster() -> None:
    items = [prediction(str(index), index / 4) for index in range(4)]
    intervals = comparison_rows(items, items)[0].intervals
    assert intervals is not None
    assert intervals[0].n_clusters == 4
    with_image = [dataclasses.replace(item, image="cat.png" if item.id < "2" else "dog.png") for item in items]
    intervals = comparison_rows(with_image, with_image)[0].intervals
    assert intervals is not None
    assert intervals[0].n_clusters == 2


def test_alignment_is_by_id() -> None:
    assert comparison_rows(BASE, TUNED[::-1]) == comparison_rows(BASE, TUNED)


def test_other_questions_are_refused() -> None:
    for base, tuned in ((BASE, TUNED[1:]), (BASE[1:], TUNED)):
        with pytest.raises(VlmLitError, match=r"1 ids in one of them only \(such as 'q0'\)"):
            comparison_rows(base, tuned)
    with pytest.raises(VlmLitError, match="once each: 9 and 8 answers"):
        comparison_rows([*BASE, BASE[0]], TUNED)
    with pytest.raises(VlmLitError, match="once each: 0 and 0 answers"):
        comparison_rows([], [])


def test_other_references_are_refused() -> None:
    changed = [dataclasses.replace(TUNED[0], references=("blue",)), *TUNED[1:]]
    with pytest.raises(VlmLitError, match=r"judged 'q0' by different references: \['red'\] and \['blue'\]"):
        comparison_rows(BASE, changed)


def test_an_item_without_a_score_is_refused() -> None:
    unscored = [dataclasses.replace(BASE[0], score=None), *BASE[1:]]
    with pytest.raises(VlmLitError, match="'q0' has no score"):
        comparison_rows(unscored, TUNED)


def test_the_table_as_it_is_printed() -> None:
    # By hand: the deviation sums of `overall` are -0.575, 0.425, -0.275, 0.425 for base; t is 3.18 at 3 degrees.
    assert comparison_table(comparison_rows(BASE, TUNED)) == (
        "                      n  base %              tuned %              difference (points)\n"
        "overall               8   28.7 [0.0, 69.0]    86.2 [47.6, 100.0]   +57.5 [+33.6, +81.4]\n"
        "answer_type/number    4   25.0 [0.0, 100.0]   75.0 [0.0, 100.0]    +50.0 [+50.0, +50.0]\n"
        "answer_type/other     4   32.5 [0.0, 100.0]   97.5 [65.7, 100.0]   +65.0 [-100.0, +100.0]\n"
        "question_type/colour  2    0.0 (one image)    50.0 (one image)     +50.0 (one image)\n"
        "\n"
        "[low, high]: 95 % confidence interval, clustered by image, differences paired.\n"
        "None of them holds the noise of training, which takes several seeds to see.\n"
        "An interval of no width says that the images agree, not that the value is certain.\n"
    )


def test_identical_runs_print_a_plain_zero() -> None:
    table = comparison_table(comparison_rows(BASE, BASE))
    assert " +0.0 [+0.0, +0.0]" in table
    assert "-0.0" not in table


def test_a_loss_too_small_to_show_prints_as_zero() -> None:
    row = ComparisonRow(name="overall", n=10_000, base=0.5, tuned=0.4999, intervals=None)
    assert "+0.0 (one image)" in comparison_table([row])
    assert "10,000" in comparison_table([row])


def test_one_image_has_no_intervals() -> None:
    items = [prediction(str(index), 1.0, image_id="only") for index in range(2)]
    assert "No intervals" in comparison_table(comparison_rows(items, items))


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        comparison_table([])
