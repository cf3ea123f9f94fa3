"""Tests of counterfactual pairs in comparisons: right is who is right on both, and the interval is clustered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.run_files import row, rows, write_run
from vlm_lit.studies.comparing.alignment import align
from vlm_lit.studies.comparing.comparison import Comparison, Method, compare
from vlm_lit.studies.comparing.counterfactual import counterfactual
from vlm_lit.studies.comparing.exports import as_json
from vlm_lit.studies.comparing.notes import notes
from vlm_lit.studies.estimates.statistics import mean_interval, paired_difference
from vlm_lit.studies.run_files.systems import open_systems

LOOKS = [(1.0, 1.0)] * 30 + [(1.0, 0.0)] * 6 + [(0.0, 0.0)] * 4
BLIND = [(1.0, 0.0), (0.0, 1.0)] * 20


def run_of(folder: Path, scores: Sequence[tuple[float, float]], metric: str = "vqa_accuracy") -> Path:
    lines = [
        row(
            f"s{i // 2}-pair{i % 2}/{side}",
            score,
            image_id=f"s{i // 2}",
            prediction="red" if folder.name == "b" else side,
        )
        for i, both in enumerate(scores)
        for side, score in zip(("first", "second"), both, strict=True)
    ]
    return write_run(folder, lines, metric=metric)


def compared(folders: Sequence[Path]) -> Comparison:
    systems = open_systems(folders)
    return compare(systems, align(systems), Method())


def test_a_system_is_right_on_a_pair_when_both_answers_are(tmp_path: Path) -> None:
    found = counterfactual(compared([run_of(tmp_path / "a", LOOKS), run_of(tmp_path / "b", BLIND)]))
    assert found is not None
    looks, blind = found.systems
    images = [i // 2 for i in range(40)]
    right = [float(a == b == 1.0) for a, b in LOOKS]
    assert (found.pairs, found.images) == (40, 20)
    assert (looks.both, looks.interval) == (0.75, mean_interval(right, images))
    assert looks.single == pytest.approx(66 / 80)
    assert (blind.both, blind.single) == (0.0, 0.5)
    assert (looks.same, blind.same) == (0.0, 1.0)
    assert found.differences == (("a", "b", paired_difference(right, [0.0] * 40, images)),)


def test_a_half_right_answer_is_not_right(tmp_path: Path) -> None:
    found = counterfactual(compared([run_of(tmp_path / n, [(1.0, 0.9), (1.0, 1.0)] * 2) for n in ("a", "b")]))
    assert found is not None
    assert found.systems[0].both == 0.5


def test_a_metric_of_which_less_is_better_calls_no_answer_right(tmp_path: Path) -> None:
    folders = [run_of(tmp_path / n, LOOKS, metric="chair") for n in ("a", "b")]
    assert counterfactual(compared(folders)) is None


def test_notes_and_exports_say_it_and_other_questions_have_none(tmp_path: Path) -> None:
    both = compared([run_of(tmp_path / "a", LOOKS), run_of(tmp_path / "b", BLIND)])
    said = [note for note in notes(both) if note.startswith("Counterfactual pairs")]
    assert said[0].startswith("Counterfactual pairs (40 of 20 images): a has both answers right in 75.0 % [")
    assert said[1].endswith("a single one in 50.0 %; the same answer to both scenes in 100.0 %.")
    assert "a minus b: +75.0 points [" in said[2]
    assert json.loads(as_json(both))["counterfactual"]["pairs"] == 40
    plain = compared([write_run(tmp_path / n, rows([1.0, 0.0] * 4)) for n in ("c", "d")])
    assert counterfactual(plain) is None
    assert "counterfactual" not in json.loads(as_json(plain))


def test_a_question_without_its_other_is_in_no_pair(tmp_path: Path) -> None:
    lines = [row("s0-pair0/first", 1.0), row("s1-pair0/second", 1.0), row("s2", 1.0)]
    assert counterfactual(compared([write_run(tmp_path / n, lines) for n in ("a", "b")])) is None
