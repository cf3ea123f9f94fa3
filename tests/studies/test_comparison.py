"""Tests of comparisons: from aligned systems to pairs, groups, verdicts and notes."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from tests.support.run_files import row, rows, write_run, write_scores
from vlm_lit.studies.comparing.alignment import align
from vlm_lit.studies.comparing.comparison import Comparison, Method, compare
from vlm_lit.studies.comparing.examples import selections
from vlm_lit.studies.comparing.headline import headline
from vlm_lit.studies.comparing.notes import notes
from vlm_lit.studies.estimates.significance import holm
from vlm_lit.studies.estimates.statistics import mean_interval, paired_difference
from vlm_lit.studies.page_parts.wording import points
from vlm_lit.studies.run_files.systems import open_systems

BASE = [0, 0, 0, 1, 0, 0.3, 0, 1, 0, 0]
TUNED = [1, 0, 1, 1, 0.9, 1, 1, 1, 1, 0.6]


def compared(folders: list[Path], **method: object) -> Comparison:
    systems = open_systems(folders)
    return compare(systems, align(systems), Method(**method))  # type: ignore[arg-type]


def two(folder: Path, a: Sequence[float | None], b: Sequence[float | None], **method: object) -> Comparison:
    return compared([write_run(folder / "a", rows(a)), write_run(folder / "b", rows(b))], **method)


def said(comparison: Comparison) -> str:
    return "\n".join(notes(comparison))


def test_a_pair_is_what_the_statistics_say(tmp_path: Path) -> None:
    found = two(tmp_path, BASE, TUNED)
    (pair,) = found.pairs
    images = [i // 2 for i in range(10)]
    assert pair.difference == paired_difference(BASE, TUNED, images)
    assert (pair.n, pair.clusters) == (10, 5)
    assert (pair.mean_a, pair.mean_b) == pytest.approx((0.23, 0.85))
    assert pair.correlation == pytest.approx(float(np.corrcoef(BASE, TUNED)[0, 1]))
    assert (pair.tally.wins, pair.tally.ties, pair.tally.losses) == (0, 3, 7)
    assert pair.mcnemar is None
    assert pair.bootstrap is not None
    assert pair.bootstrap.low < pair.gap < pair.bootstrap.high
    assert pair.mde == pytest.approx(2.8 * pair.difference.se) if pair.difference else False
    assert pair.verdict == "b ahead (only 5 images: no evidence)"
    assert [s.interval for s in found.standings] == [mean_interval(BASE, images), mean_interval(TUNED, images)]


def test_the_lower_score_wins_where_less_is_better(tmp_path: Path) -> None:
    a, b = [1.0] * 30 + [0.0] * 10, [1.0] * 4 + [0.0] * 35 + [1.0]
    folders = [write_run(tmp_path / n, rows(s, per_image=1), metric="chair") for n, s in (("a", a), ("b", b))]
    found = compared(folders)
    (pair,) = found.pairs
    assert (pair.tally.wins, pair.tally.ties, pair.tally.losses) == (1, 13, 26)
    assert pair.mcnemar is not None
    assert (pair.mcnemar.only_a, pair.mcnemar.only_b) == (1, 26)
    assert pair.gap == pytest.approx(25 / 40)  # a - b as ever
    assert pair.verdict == "b better"
    assert headline(found)[-1].startswith("b is better than a by 62.5 points (95 % interval ")
    assert "Lower is better by this metric" in said(found)
    ahead = {selection.title: [item.id for item in selection.items] for selection in selections(found, 6)}
    assert ahead["b ahead of a"] == ["q4", "q5", "q6"]
    assert ahead["a ahead of b"] == ["q39"]
    backwards = compared(folders[::-1])
    assert backwards.pairs[0].verdict == "b better"
    assert headline(backwards)[-1] == headline(found)[-1]
    assert "Lower" not in said(two(tmp_path / "other", a, b))


def test_the_other_standard_error(tmp_path: Path) -> None:
    (pair,) = two(tmp_path, BASE, TUNED, kind="miller").pairs
    assert pair.difference == paired_difference(BASE, TUNED, [i // 2 for i in range(10)], kind="miller")


def test_no_difference_names_what_would_have_been_seen(tmp_path: Path) -> None:
    (pair,) = two(tmp_path, [1, 0, 0, 1, 0, 1], [0, 1, 1, 0, 0, 0]).pairs
    assert pair.mde is not None
    assert pair.verdict == f"no difference detectable (MDE {100 * pair.mde:.1f} points)"
    assert pair.mcnemar is not None


def test_identical_systems(tmp_path: Path) -> None:
    (pair,) = two(tmp_path, BASE, BASE).pairs
    assert pair.difference is not None
    assert (pair.gap, pair.difference.low, pair.difference.high, pair.difference.p) == (0, 0, 0, 1)
    assert pair.bootstrap is not None
    assert (pair.bootstrap.low, pair.bootstrap.high, pair.mde) == (0, 0, 0)
    assert pair.correlation == pytest.approx(1)
    assert pair.verdict == "no difference detectable (the same score on every item)"


def test_one_image_has_no_interval_and_says_so(tmp_path: Path) -> None:
    lines = [row(f"q{i}", s, image_id="only") for i, s in enumerate([1, 0, 1])]
    other = [row(f"q{i}", 0, image_id="only") for i in range(3)]
    found = compared([write_run(tmp_path / "a", lines), write_run(tmp_path / "b", other)])
    (pair,) = found.pairs
    assert (pair.difference, pair.bootstrap, pair.mde, pair.p_holm) == (None, None, None, None)
    assert pair.gap == pytest.approx(2 / 3)
    assert pair.verdict == "not judged (one image only)"
    assert "show one image" in said(found)


def test_several_pairs_are_corrected_together(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    runs = [
        write_run(tmp_path / name, rows((random.random(60) < level).astype(float).tolist()))
        for name, level in (("a", 0.3), ("b", 0.55), ("c", 0.6))
    ]
    found = compared(runs)
    assert [(p.a, p.b) for p in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    alone = [p.difference.p for p in found.pairs if p.difference]
    assert [p.p_holm for p in found.pairs] == holm(alone)
    assert [p.p_holm for p in found.pairs] != alone
    for column in range(3):
        group = [g.pairs[column] for g in found.groups]
        assert [p.p_holm for p in group] == holm([p.difference.p for p in group if p.difference])


def test_a_difference_that_only_the_correction_takes_away_says_so(tmp_path: Path) -> None:
    a = [1.0] * 30 + [0.0] * 30
    b = [1.0] * 24 + [0.0] * 36  # six items lost
    runs = [write_run(tmp_path / n, rows(s, per_image=1)) for n, s in (("a", a), ("b", b), ("c", a))]
    pair = compared(runs).pairs[0]
    assert pair.difference is not None
    assert pair.difference.p < 0.05 / 2
    assert pair.verdict.startswith("a better")
    b = [1.0] * 25 + [0.0] * 35
    runs = [write_run(tmp_path / n, rows(s, per_image=1)) for n, s in (("a", a), ("b", b), ("c", a[::-1]))]
    pair = compared(runs).pairs[0]
    assert pair.difference is not None
    assert pair.p_holm is not None
    assert pair.difference.p <= 0.05 < pair.p_holm
    assert pair.verdict.endswith(", after Holm's correction)")


def test_groups(tmp_path: Path) -> None:
    found = two(tmp_path, BASE, TUNED)
    assert [(g.name, g.value, g.n) for g in found.groups] == [
        ("answer_type", "number", 5),
        ("answer_type", "other", 5),
    ]
    assert found.groups[0].pairs[0].mean_b == pytest.approx(sum(TUNED[:5]) / 5)


def test_a_group_of_everything_is_left_out(tmp_path: Path) -> None:
    lines = [row(f"q{i}", 1, groups={"split": "test"}) for i in range(4)]
    run = write_run(tmp_path / "a", lines)
    assert compared([run, run]).groups == ()


def test_unscored_runs_have_no_figures(tmp_path: Path) -> None:
    found = two(tmp_path, [None] * 4, [None] * 4)
    assert (found.standings, found.pairs, found.groups, len(found.items)) == ((), (), (), 4)
    assert said(found) == "Nothing is tested: the files hold no scores."


def test_unscored_items_and_systems_are_counted(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, rows(scores))
        for name, scores in (("a", [1, None, 0, 1]), ("b", [0, None, 1, 1]), ("c", [None] * 4))
    ]
    found = compared(runs)
    assert (len(found.judged), len(found.pairs), found.pairs[0].n) == (3, 1, 3)
    assert "enter no figure: 1." in said(found)
    assert "Without scores, hence shown only: c." in said(found)


def test_one_seed_is_said(tmp_path: Path) -> None:
    (first, *_) = [line for line in headline(two(tmp_path, BASE, TUNED)) if "about training" in line]
    assert first.startswith("This is no evidence about training: a system was trained with one seed, and it takes 3")


def test_seeds_of_one_course_are_listed(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(s), rows([1] * s + [0] * (4 - s)), seed=s) for s in (1, 2, 3)]
    text = said(compared(runs))
    assert "Seeds of one course: 1, 2, 3 (seeds 1, 2, 3), mean 50.0, standard deviation 25.0 points." in text
    assert "about training" not in " ".join(headline(compared(runs)))
    assert "trained with 2 seeds" in " ".join(headline(compared(runs[:2])))


def test_other_settings_are_said(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", rows(BASE), max_new_tokens=16)
    b = write_run(tmp_path / "b", rows(TUNED), max_new_tokens=32)
    assert "Not run alike: max new tokens is 16 (a); 32 (b)." in said(compared([a, b]))


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"answer_from": ["yes", "no"]}, 'answer from is not set (a); ["yes", "no"] (b)'),
        ({"sampling": {"temperature": 1.5}}, 'sampling is not set (a); {"temperature": 1.5} (b)'),
        ({"answer_score": "mean"}, None),  # the other run's class does not know it
    ],
)
def test_other_ways_of_answering_are_said(settings: dict[str, Any], shown: str | None, tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a", rows(BASE)), write_run(tmp_path / "b", rows(TUNED), **settings)
    text = said(compared([a, b]))
    assert "Not run alike" not in text if shown is None else f"Not run alike: {shown}." in text
    c = write_run(tmp_path / "c", rows(BASE), answer_score="sum")
    assert ("answer score is mean (b); sum (c)" in said(compared([b, c]))) == (shown is None)


def test_long_settings_are_told_apart(tmp_path: Path) -> None:
    many = [f"answer {i}" for i in range(99)]
    a = write_run(tmp_path / "a", rows(BASE), answer_from=many)
    b = write_run(tmp_path / "b", rows(TUNED), answer_from=[*many, "one more"])
    assert "Not run alike: answer from is " in said(compared([a, b]))
    assert "Not run alike" not in said(compared([a, write_run(tmp_path / "c", rows(BASE), answer_from=many)]))


def test_what_score_files_hold_back_is_said(tmp_path: Path) -> None:
    a = write_scores(tmp_path / "a.json", {"q0": 1, "q1": 0}, overall=66.7, unparsed=1)
    b = write_scores(tmp_path / "b.json", {"q0": 1, "q1": 1})
    text = said(compared([a, b]))
    assert "own figure (a 66.7) is not the mean" in text
    assert "could not read: a 1." in text
    assert "no breakdown" in text
    assert "Only 2 images" in text


def test_dropped_ids_are_said(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a", rows([1, 0, 1])), write_run(tmp_path / "b", rows([1, 0]))
    systems = open_systems([a, b])
    found = compare(systems, align(systems, intersect=True), Method())
    assert said(found).startswith("Ids that not every system has, left out: 1; items that remain: 2.")


def shown(folder: Path, scores: Sequence[float | None], blind: str | None, **model: object) -> Path:
    """A run that showed its images, or something else."""
    run = write_run(folder, rows(scores), **model)  # type: ignore[arg-type]
    settings = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**settings, "data": {"init_args": {"blind": blind}}}))
    return run


@pytest.mark.parametrize(
    ("blind", "how"),
    [("blank", "With blank pictures"), ("shuffle", "With shuffled pictures"), ("drop", "Without pictures")],
)
def test_what_a_blind_run_leaves_of_the_score_is_said(tmp_path: Path, blind: str, how: str) -> None:
    sighted, control = shown(tmp_path / "a", TUNED, None), shown(tmp_path / "b", BASE, blind)
    assert f"{how} the score is 23.0 (b): 62.0 points of 85.0 (a) need the picture." in said(
        compared([sighted, control])
    )
    control = shown(tmp_path / "b", TUNED, blind)
    text = said(compared([sighted, control]))
    assert f"{how} the score is 85.0 (b), no lower than 85.0 (a): nothing here shows that the picture" in text


def test_a_blind_run_is_measured_against_its_own_model(tmp_path: Path) -> None:
    mine, other = (shown(tmp_path / name, TUNED, None, adapter=f"runs/{name}") for name in ("a", "other"))
    control = shown(tmp_path / "b", BASE, "blank", adapter="runs/a")
    assert said(compared([mine, other, control])).count("points of") == 1
    assert "points of 85.0 (a) need" in said(compared([mine, other, control]))
    assert "need the picture" not in said(compared([mine, other]))
    assert "the picture" not in said(compared([shown(tmp_path / "c", TUNED, "drop", adapter="runs/a"), control]))


def test_an_untrained_models_blind_run_says_nothing_of_a_trained_one(tmp_path: Path) -> None:
    trained, control = shown(tmp_path / "a", TUNED, None), shown(tmp_path / "b", BASE, "blank")
    results = json.loads((control / "results.json").read_text())
    (control / "results.json").write_text(json.dumps({**results, "global_step": 0}))
    assert "need the picture" not in said(compared([trained, control]))


def untrained(run: Path) -> Path:
    """The same run by a base as it is."""
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**results, "global_step": 0}))
    return run


def test_under_thirty_images_the_headline_says_that_it_is_no_evidence(tmp_path: Path) -> None:
    first, *others = headline(two(tmp_path, [0] * 29 * 2, [1] * 29 * 2))
    assert first == (
        "This is no evidence: only 29 images were asked about. It takes 30 or more to say anything about other images."
    )
    assert others[-1].startswith("a against b: b ahead (only 29 images: no evidence); \N{MINUS SIGN}100.0 points")
    assert not [line for line in others if "better" in line]
    enough = headline(two(tmp_path / "enough", [0] * 30 * 2, [1] * 30 * 2))
    assert not [line for line in enough if "images were asked" in line]
    assert enough[-1].startswith("b is better than a by 100.0 points")


def test_a_base_as_it_is_needs_no_seeds(tmp_path: Path) -> None:
    runs = [untrained(write_run(tmp_path / name, rows([1, 0] * 40))) for name in "ab"]
    assert "about training" not in " ".join(headline(compared(runs)))


def test_no_interval_leaves_what_a_difference_can_be(tmp_path: Path) -> None:
    (pair,) = two(tmp_path, [0, 0, 1, 0], [1, 1, 1, 0]).pairs
    assert pair.difference is not None
    assert pair.difference.low < -1, "the case is too easy"
    assert pair.interval is not None
    low, high = pair.interval
    assert low == -1.0
    assert high == pytest.approx(min(pair.difference.high, 1.0))
    text = said(two(tmp_path, [0, 0, 1, 0], [1, 1, 1, 0]))
    assert (
        "a - b: Student's t reaches beyond 100 points, where no difference can be; the interval is cut there." in text
    )


def test_where_two_methods_differ_the_one_that_is_quoted_is_named_with_the_reason(tmp_path: Path) -> None:
    found = two(tmp_path, [0, 0, 1, 0, 1, 1], [1, 1, 1, 0, 1, 1])
    (pair,) = found.pairs
    assert pair.bootstrap is not None
    assert pair.interval is not None
    (line,) = [note for note in notes(found) if "two methods differ" in note]
    for words in (points(pair.interval[0]), points(pair.bootstrap.low), "is quoted; the bootstrap gives",
                  "Student's t allows for the spread being known from 3 images only"):  # fmt: skip
        assert words in line
    alike = two(tmp_path / "alike", [0, 1] * 100, [1, 1, 0, 1] * 50)
    assert "two methods differ" not in said(alike)


def test_a_verdict_and_its_interval_have_the_same_correction(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    runs = [
        write_run(tmp_path / f"r{i}", rows((random.random(90) < 0.5 + 0.05 * i).astype(float).tolist(), per_image=1))
        for i in range(5)
    ]
    found = compared(runs)
    every = [*found.pairs, *(pair for group in found.groups for pair in group.pairs)]
    assert {pair.verdict.endswith(" better") for pair in found.pairs} == {True, False}
    alone = 0
    for pair in every:
        assert pair.interval is not None
        assert pair.difference is not None
        apart = pair.interval[0] > 0 or pair.interval[1] < 0
        assert apart == (pair.p_holm is not None and pair.p_holm <= 0.05)
        half = stats.t.ppf((1 + pair.level) / 2, pair.clusters - 1) * pair.difference.se
        assert pair.interval == pytest.approx((pair.gap - half, pair.gap + half))
        alone += pair.difference.p <= 0.05 and not apart
    assert alone, "the case needs a difference that only the correction takes away"


def test_what_is_compared_names_the_weights(tmp_path: Path) -> None:
    tuned, base, merged, apart = (write_run(tmp_path / name, rows([1, 0])) for name in ("t", "b", "m", "x"))
    for name, step in (("adapter_model.safetensors", None), ("checkpoints/step-000009.ckpt", 9)):
        path = tuned / ("adapter" if step is None else "") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
    folder = tmp_path / "merged model"
    folder.mkdir()
    (folder / "README.md").write_text("# m\n\n## Merging\n")
    for run, model in ((base, "llava"), (merged, str(folder))):
        results = json.loads((untrained(run) / "results.json").read_text())
        (run / "results.json").write_text(json.dumps({**results, "model_id": model}))
    settings = yaml.safe_load((apart / "config.yaml").read_text())
    (apart / "config.yaml").write_text(yaml.safe_dump({**settings, "ckpt_path": str(path)}))
    digest = hashlib.sha256(b"weights").hexdigest()[:12]
    shown = [system.facts.shown["weights"] for system in open_systems([tuned, base, merged, apart])]
    assert shown == [
        f"llava + adapter of {tuned} at step 9 (sha256 {digest})",
        "llava as it is, no adapter",
        f"{folder} as it is, a merged model, no adapter",
        f"llava + adapter of {tuned} at step 9 (sha256 {digest})",
    ]
    (tuned / "checkpoints" / "step-000012.ckpt").write_bytes(b"")  # adapter/ is of that one
    assert open_systems([tuned])[0].facts.shown["weights"] == f"llava + adapter of {tuned} at step 9"
    started = write_run(tmp_path / "s", rows([1, 0]), adapter=str(tuned / "adapter"))
    shown = [open_systems([untrained(started)])[0].facts.shown["weights"]]
    assert shown == [f"llava + {tuned / 'adapter'} (sha256 {digest})"]
