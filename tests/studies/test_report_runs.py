"""Tests of a study's runs: which count, what they cost, and what is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.support.study_runs import METRIC, falling, open_study, write_cell
from vlm_lit.cli import main
from vlm_lit.errors import VlmLitError
from vlm_lit.studies.reporting.report import study_report
from vlm_lit.studies.reporting.report_costs import adapter_size
from vlm_lit.studies.reporting.report_runs import read_study_runs
from vlm_lit.studies.reporting.report_sentences import findings, limits
from vlm_lit.studies.running.study_file import Study

RIGHT = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return open_study(tmp_path, {"way": ["a", "b"]})


def test_every_state_is_told_apart(study: Study) -> None:
    write_cell(study, {"way": "a"}, 0, RIGHT)
    write_cell(study, {"way": "a"}, 1, status="failed", error="Step 7 has loss nan")
    write_cell(study, {"way": "b"}, 0, status="running")
    write_cell(study, {"way": "b"}, 1, RIGHT, digest="of other settings")
    states = {(run.cell.name, run.cell.seed): (run.state, run.error) for run in read_study_runs(study)}
    assert states == {
        ("way=a", 0): ("done", None),
        ("way=a", 1): ("failed", "Step 7 has loss nan"),
        ("way=a", 2): ("missing", None),
        ("way=b", 0): ("running", None),
        ("way=b", 1): ("outdated", "was run with other settings"),
        ("way=b", 2): ("missing", None),
    }
    report = study_report(study)
    assert [(run.cell.key, run.state) for run in report.unfinished] == [
        ("way=a/seed=1", "failed"),
        ("way=a/seed=2", "missing"),
        ("way=b/seed=0", "running"),
        ("way=b/seed=1", "outdated"),
        ("way=b/seed=2", "missing"),
    ]
    assert findings(report)[0] == (
        "The study is unfinished: 5 of 6 runs have no score (1 failed, 2 missing, 1 running, 1 outdated). All figures "
        "are of the others."
    )


@pytest.mark.slow
def test_an_adapter_is_counted_by_what_is_in_it(config: Callable[..., Path], tmp_path: Path) -> None:
    assert main(["fit", "--config", str(config())]) == 0
    found = adapter_size(tmp_path / "run")
    path = tmp_path / "run" / "adapter" / "adapter_model.safetensors"
    with safe_open(path, "pt") as file:
        trained = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert found is not None
    assert found.parameters == trained == 8_320 + 16_384  # the projector in full, LoRA on the language model
    assert found.mib == path.stat().st_size / 2**20
    assert adapter_size(tmp_path) is None


@pytest.mark.parametrize(("start", "parameters"), [("random", 6 * 8 + 6 * 4 + 10), ("pissa", 3 * 8 + 3 * 4 + 10)])
def test_a_start_that_is_saved_beside_what_was_trained_is_not_counted(
    start: str, parameters: int, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    matrices = {"q.lora_A.weight": np.zeros((6, 8)), "q.lora_B.weight": np.zeros((4, 6)), "projector": np.zeros(10)}
    save_file(matrices, adapter / "adapter_model.safetensors")
    (adapter / "fingerprint.json").write_text(
        json.dumps({"base": {"model_id": "tiny"}, "lora": {"rank": 3, "start": start}})
    )
    found = adapter_size(tmp_path)
    assert found is not None
    assert found.parameters == parameters


def test_a_run_that_says_it_is_done_must_have_its_files(study: Study) -> None:
    folder = write_cell(study, {"way": "a"}, 0, RIGHT)
    for name, says in (
        ("predictions.jsonl", "says that this run is done, but there is no predictions.jsonl"),
        ("results.json", "results.json: cannot be read"),
    ):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        with pytest.raises(VlmLitError, match=says) as refused:
            study_report(study)
        assert str(folder) in str(refused.value)
        (folder / name).write_bytes(kept)


def test_broken_files_are_named(study: Study) -> None:
    folder = write_cell(study, {"way": "a"}, 0, RIGHT)
    adapter = folder / "adapter" / "adapter_model.safetensors"
    for path, says in (
        (folder / "cell.json", "cell.json: the text ends too early"),
        (folder / "predictions.jsonl", "predictions.jsonl, line 1: the text ends too early"),
        (adapter, "adapter_model.safetensors: is damaged"),
    ):
        kept = path.read_bytes()
        path.write_bytes(kept[:7])
        with pytest.raises(VlmLitError, match=says) as refused:
            study_report(study)
        assert str(folder) in str(refused.value)
        path.write_bytes(kept)


def test_runs_that_were_asked_other_questions_are_refused_with_both_names(study: Study) -> None:
    write_cell(study, {"way": "a"}, 0, RIGHT)
    write_cell(study, {"way": "b"}, 2, RIGHT, prefix="other")
    with pytest.raises(VlmLitError, match="way=a, seed 0 and way=b, seed 2 were not asked the same") as refused:
        study_report(study)
    assert "--intersect" not in str(refused.value)
    assert "Test both on the same data" in str(refused.value)


def test_other_references_are_refused_with_both_names(study: Study) -> None:
    write_cell(study, {"way": "a"}, 0, RIGHT)
    folder = write_cell(study, {"way": "b"}, 1, RIGHT)
    lines = (folder / "predictions.jsonl").read_text().replace('["red"]', '["blue"]', 1)
    (folder / "predictions.jsonl").write_text(lines)
    with pytest.raises(VlmLitError, match="way=a, seed 0 and way=b, seed 1 judged 'q0' by different references"):
        study_report(study)


def test_scores_of_another_metric_are_refused(study: Study) -> None:
    folder = write_cell(study, {"way": "a"}, 0, RIGHT)
    results = json.loads((folder / "results.json").read_text())
    results["metrics"] = {"pope": 0.5, **results["metrics"]}
    (folder / "results.json").write_text(json.dumps(results))
    with pytest.raises(VlmLitError, match=f"scored by pope, the study's metric is {METRIC}"):
        study_report(study)


def test_a_group_has_its_questions_alone(tmp_path: Path) -> None:
    study = open_study(tmp_path, {"way": ["a", "b"]}, metric=f"{METRIC}/number")
    write_cell(study, {"way": "a"}, 0, RIGHT, per_image=1)
    report = study_report(study)
    (scored,) = report.ranked
    assert scored.score is not None
    assert (scored.score.n, scored.score.mean) == pytest.approx((3, 1 / 3))  # q1, q3, q5
    assert report.scores.own_figures == {}


def test_a_question_without_a_score_in_one_run_enters_none(study: Study) -> None:
    write_cell(study, {"way": "a"}, 0, RIGHT)
    write_cell(study, {"way": "b"}, 0, [None, 1.0, 1.0, 1.0, 0.0, 0.0])
    report = study_report(study)
    assert [s.score.mean for s in report.ranked if s.score] == [pytest.approx(2 / 5), pytest.approx(3 / 5)]
    assert any("enter no figure: 1." in note for note in limits(report))


def test_a_figure_that_is_no_mean_is_said(study: Study) -> None:
    write_cell(study, {"way": "a"}, 0, RIGHT, measured=0.25)
    assert any("own figure (way=a, seed 0 25.0) is not the mean" in note for note in limits(study_report(study)))


def test_limits_say_what_one_seed_and_few_images_cannot_show(study: Study) -> None:
    write_cell(study, {"way": "a"}, 0, RIGHT)
    said = " ".join(limits(study_report(study)))
    assert "One seed of each setting" in said
    assert "Only 3 images" in said
    write_cell(study, {"way": "a"}, 1, RIGHT)
    write_cell(study, {"way": "b"}, 1, RIGHT)
    said = " ".join(limits(study_report(study)))
    assert "With one seed, intervals hold no noise of training: way=b." in said
    assert "Lacking: way=a 2; way=b 0, 2." in said


def test_memory_in_training_is_the_most_that_was_logged(study: Study) -> None:
    events = {"train/loss": falling(3, to=1.0), "train/peak_memory_gib": [(0, 0, 1.5), (1, 1, 2.5), (2, 2, 2.25)]}
    write_cell(study, {"way": "a"}, 0, RIGHT, events=events)
    (run,) = (run for run in read_study_runs(study) if run.state == "done")
    assert (run.training_memory_mib, run.host_memory_mib) == (2560.0, 512.0)
