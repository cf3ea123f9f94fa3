"""Tests of mDPO: its three terms equal two plain models, its corrupted pictures are the same however a run goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn

from tests.support.interrupted import Kill, Outcome, fit_apart
from tests.support.pair_cases import BETA, MDPO, module, preferences, step
from tests.support.pairs import preference_config, write_folder
from tests.support.plain_pairs import assert_equal_to_plain, doubled, plain_log_prob
from tests.support.runs import fit, run_dir, scalars, verb
from tests.support.tiny_families.catalogue import TINY
from tests.support.whole_precision import WholePrecision
from vlm_lit.data.answers.corrupted import CorruptedAnswers
from vlm_lit.schema import Preference, TokenBatch
from vlm_lit.training.pair_figures import FIGURES, IMAGE_FIGURES
from vlm_lit.training.preference import PreferenceModule
from vlm_lit.training.referenced import ReferencedModule

Config = Callable[..., Path]

LOSSES: Final = [{"name": "sigmoid"}, {"name": "image_sigmoid"}, {"name": "anchor"}]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.json (20 pairs, two about a picture) and val.json (6 pairs)."""
    return write_folder(tmp_path_factory.mktemp("mdpo"), "pairs")


@pytest.fixture
def mdpo(tiny_llava: Path, measured: Path, tmp_path: Path) -> Config:
    """Writes a runnable config of mDPO. Returns its path."""

    def write(*, model: dict[str, Any] | None = None, data: dict[str, Any] | None = None, **more: Any) -> Path:
        return preference_config(
            tmp_path,
            tiny_llava,
            measured,
            model={"losses": LOSSES, **(model or {})},
            data={"corrupt": "crop", **(data or {})},
            **more,
        )

    return write


def plain_loss(policy: nn.Module, reference: nn.Module, folder: Path, pairs: Sequence[Preference]) -> Tensor:
    """The mean loss over pairs, written out, three answers and two models apart."""
    corrupted, losses = CorruptedAnswers("crop", pairs, seed=3), []
    for pair in pairs:
        ratios = []
        for talk in (pair.chosen, pair.rejected, corrupted(pair)):
            with torch.no_grad():
                before, _ = plain_log_prob(reference, folder, talk)
            ratios.append(plain_log_prob(policy, folder, talk)[0] - before)
        won, lost, without = ratios
        terms = [won - lost, won - without, won]
        losses.append(sum(w * -torch.log(torch.sigmoid(BETA * x)) for w, x in zip((1.0, 0.7, 0.4), terms, strict=True)))
    return torch.stack(losses).mean()  # type: ignore[arg-type]


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("family", TINY)
def test_loss_and_gradients_equal_two_plain_models(family: str, folders: dict[str, Path]) -> None:
    assert_equal_to_plain(
        folders[family], module(folders[family], losses=MDPO).double(), plain_loss, rows=6, corrupt="crop"
    )


@pytest.mark.parametrize("packing", [True, False])
def test_equality_4_the_result_does_not_depend_on_the_micro_batch(packing: bool, tiny_llava: Path) -> None:
    ours, pairs = module(tiny_llava, losses=MDPO).double(), preferences()
    parameters = ours.trainable_parameters()
    found = []
    for rows, micro_tokens in ((1, None), (3, None), (8, None), (8, 60)):
        made = step(tiny_llava, pairs, rows=rows, packing=packing, corrupt="crop", micro_tokens=micro_tokens)
        with WholePrecision():
            parts = [ours.loss(doubled(batch)) / made.weight for batch in made.micro_batches]
        whole = torch.stack(parts).sum()
        found.append((float(whole.detach()), torch.autograd.grad(whole, parameters)))
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-12)
        torch.testing.assert_close(gradients, found[0][1], rtol=1e-10, atol=1e-12)


def test_a_run_logs_what_the_picture_brings(mdpo: Config) -> None:
    path = mdpo(model={"warmup_ratio": 0.0, "learning_rate": 3e-3}, trainer={"max_epochs": 4})
    fit(path)
    found = scalars(run_dir(path))
    for name in (*FIGURES, *IMAGE_FIGURES):
        assert [step for step, _ in found[f"train/{name}"]] == list(range(12)), name
        assert len(found[f"val/{name}"]) == 4, name
    # Before the first step the policy is its own reference: three terms of log 2.
    assert found["train/loss"][0][1] == pytest.approx(3 * 0.6931472, abs=1e-6)
    assert found["train/rewards/image_margins"][0][1] == found["train/rewards/corrupted"][0][1] == 0.0
    assert found["train/loss"][-1][1] < 3 * 0.69
    assert found["train/rewards/image_margins"][-1][1] > 0.0
    assert verb("fit", path, "--keep_best", "val/rewards/image_margins", "--overwrite", "--trainer.max_steps=1") == 0


@pytest.mark.slow
def test_equality_6_a_killed_run_goes_on_with_the_same_crops(tiny_llava: Path, pairs: Path, tmp_path: Path) -> None:
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": 1},
    }
    path = preference_config(
        tmp_path,
        tiny_llava,
        pairs,
        model={"losses": LOSSES},
        data={"corrupt": "crop", "num_workers": 2},
        trainer={"max_epochs": 2, "callbacks": [keeper]},
    )
    assert fit_apart(path, tmp_path / "whole") == 0
    kill = Kill(at="vlm_lit.training.step:StepModule._backward", call=28)  # in the second epoch
    assert fit_apart(path, tmp_path / "killed", kill=kill) == -9
    assert fit_apart(path, tmp_path / "killed", "--ckpt_path", "last") == 0
    assert Outcome.of(tmp_path / "killed") == Outcome.of(tmp_path / "whole")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Takes how many answers the reference is asked about, each time."""
    asked: list[int] = []
    answers = ReferencedModule.reference_log_probs

    def noted(self: ReferencedModule, batch: TokenBatch) -> Tensor:
        asked.append(len(batch.ids))
        return answers(self, batch)

    monkeypatch.setattr(ReferencedModule, "reference_log_probs", noted)
    return asked


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("kind", ["crop", "shuffle", "blank"])
def test_equality_9_stored_equals_live_and_follows_from_the_corruption(
    kind: str, mdpo: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mdpo(data={"corrupt": kind, "micro_batch": 8, "val": None})
    fit(path, "--run_dir", str(tmp_path / "live"))
    kept = f"--model.init_args.reference_store={tmp_path / 'store'}"
    asked = counted(monkeypatch)
    fit(path, "--run_dir", str(tmp_path / "stored"), kept)
    assert sum(asked) == 3 * 20
    live, stored = (scalars(tmp_path / name) for name in ("live", "stored"))
    for name in ("loss", "gradient_norm", *FIGURES, *IMAGE_FIGURES):
        if name.endswith("accuracies"):  # of rewards that are zero but for rounding in the first step
            continue
        ours, theirs = ([value for _, value in run[f"train/{name}"]] for run in (stored, live))
        # A pair's log-probability in float32, computed beside others than in its step.
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5), name
    (file,) = (tmp_path / "store").iterdir()
    assert {len(values) for values in json.loads(file.read_text())["log_probs"].values()} == {3}
    asked.clear()
    fit(path, "--run_dir", str(tmp_path / "again"), kept)
    assert asked == []
    fit(path, "--run_dir", str(tmp_path / "seeded"), kept, "--seed_everything=8")
    assert sum(asked) == (0 if kind == "blank" else 3 * 20)


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("kind", ["shuffle", "blank"])
def test_features_from_the_cache_give_the_same_run(kind: str, mdpo: Config, tmp_path: Path) -> None:
    path = mdpo(data={"corrupt": kind, "val": None})
    fit(path, "--run_dir", str(tmp_path / "live"))
    fit(path, "--run_dir", str(tmp_path / "kept"), f"--data.init_args.feature_cache={tmp_path / 'features'}")
    live, kept = (scalars(tmp_path / name) for name in ("live", "kept"))
    for name in ("loss", "gradient_norm", *FIGURES, *IMAGE_FIGURES):
        ours, theirs = ([value for _, value in run[f"train/{name}"]] for run in (kept, live))
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5), name


REFUSED: Final[list[tuple[dict[str, Any], dict[str, Any], str]]] = [
    ({}, {"corrupt": None}, "model.losses has image_sigmoid"),
    ({"losses": [{"name": "sigmoid"}, {"name": "anchor"}]}, {}, "none of model.losses looks at corrupted pictures"),
    ({}, {"corrupt": "noise"}, "noise"),
    ({}, {"feature_cache": "features"}, "data.corrupt is crop, which is another picture for each pair"),
]


@pytest.mark.parametrize(("model", "data", "said"), REFUSED)
@pytest.mark.parametrize("command", ["fit", "validate"])
def test_what_does_not_fit_is_refused_before_the_model_is_loaded(
    command: str,
    model: dict[str, Any],
    data: dict[str, Any],
    said: str,
    mdpo: Config,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(_: PreferenceModule) -> None:
        raise AssertionError

    monkeypatch.setattr(PreferenceModule, "_load", never)
    assert verb(command, mdpo(model=model, data=data)) == 2
    assert said in capsys.readouterr().err


def test_streams_are_cropped_and_not_shuffled(mdpo: Config, measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    streamed = {"train": {"path": str(measured / "train.json"), "streaming": True}, "val": None}
    more = {"trainer": {"max_steps": 2, "max_epochs": -1}}
    fit(mdpo(data=streamed, **more))
    assert verb("fit", mdpo(data={**streamed, "corrupt": "shuffle"}, **more), "--overwrite") == 2
    assert "data.corrupt is shuffle, and data.train is streamed" in capsys.readouterr().err


@pytest.mark.slow
def test_pairs_without_a_picture_are_bad_records(
    tiny_llava: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "data", "pairs")
    rows = json.loads((folder / "train.json").read_text())
    del rows[4]["image"]
    (folder / "train.json").write_text(json.dumps(rows))
    write = partial(preference_config, tmp_path, tiny_llava, folder)
    assert verb("fit", write(model={"losses": LOSSES}, data={"corrupt": "crop"})) == 2
    assert "the pair shows no picture, so none can be corrupted" in capsys.readouterr().err
    skipping = {"corrupt": "crop", "bad_records": "skip", "bad_records_most": 1}
    cli = fit(write(model={"losses": LOSSES}, data=skipping))
    assert len(cli.datamodule.datasets["train"]) == 19
    assert verb("fit", write(), "--overwrite") == 0  # DPO takes them
