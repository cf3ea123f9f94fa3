"""Tests of the budget of a preference run: both answers, a third, and the reference's pass and copy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.budget_cases import BF16, SUPERVISED, batch, parts, trainer
from tests.support.family_cases import FP32
from tests.support.pairs import preference_config, write_folder
from tests.support.runs import fit, run_dir
from vlm_lit.cli import main
from vlm_lit.commands.lightning import prepared
from vlm_lit.data.rows.pairs import PairBatch
from vlm_lit.models.loading import load_config
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.quantization import QuantizationSettings
from vlm_lit.models.stored_bytes import tensor_bytes
from vlm_lit.preflight.budget.estimate import Estimator
from vlm_lit.preflight.budget.hollow_module import resident
from vlm_lit.preflight.budget.ledger import Ledger
from vlm_lit.preflight.budget.needs import Needs
from vlm_lit.preflight.budget.recipes import Recipe
from vlm_lit.preflight.budget.rows import LongestRow
from vlm_lit.training.preference import PreferenceModule

Config = Callable[..., Path]
MDPO = [{"name": "sigmoid"}, {"name": "image_sigmoid"}, {"name": "anchor"}]
LONG = 96


def module(folder: Path, kind: str) -> PreferenceModule:
    mixed = "autocast" in kind
    asked = parts("nf4", other=BF16 if mixed else FP32) if kind.startswith("nf4") else parts("fp32", full=True)
    made = PreferenceModule(
        str(folder),
        parts=asked,
        quantization=QuantizationSettings(compute_dtype="bf16" if mixed else "fp32"),
        lora=LoraSettings(dropout=0.0),
        activation_checkpointing=True,
    )
    made.trainer = trainer("bf16-mixed" if mixed else "32-true")
    return made


def pair_batch(rows: int, image_token: int) -> PairBatch:
    made = batch(rows, LONG, image_token)
    return PairBatch(**{**vars(made), "ids": [str(k) for k in range(rows)]})


@pytest.mark.parametrize("kind", ["nf4", "nf4 under bf16 autocast", "full"])
def test_a_real_step_and_its_reference_take_what_was_reckoned(kind: str, tiny_llava: Path) -> None:
    config, real = load_config(str(tiny_llava)), module(tiny_llava, kind)
    real.configure_model()
    real.train()
    for parameter in real.trainable_parameters():
        parameter.grad = parameter.detach().clone()
    unread = module(tiny_llava, kind)
    row = LongestRow(length=LONG, supervised=SUPERVISED, images=1, source="")
    needs = Estimator(unread, config, unread.trainer).needs(Recipe(name="", parts=unread.parts), row, 2)
    assert isinstance(needs, Needs)
    assert needs.reference is not None
    autocast = real.trainer.precision_plugin.train_step_context
    with autocast():
        real.loss(pair_batch(2, config.image_token_id)).backward()  # type: ignore[no-untyped-call]
    for rows in (2, 4):
        with Ledger(1, resident(real)) as alone, autocast():
            real.reference_log_probs(pair_batch(rows, config.image_token_id))
        with Ledger(1, resident(real)) as whole, autocast():
            real.loss(pair_batch(rows, config.image_token_id)).backward()  # type: ignore[no-untyped-call]
        reference, pass_ = (one.peak.at(1) for one in (alone, whole))
        # The head is counted with its backward pass, of which the reference has none.
        assert reference <= needs.reference(rows) <= 1.3 * reference
        reckoned = max(needs.backbone[True].peak.at(rows), needs.backbone[True].kept.at(rows) + needs.head(rows))
        assert max(reckoned, needs.reference(rows)) == pytest.approx(pass_, rel=0.03), rows
    assert needs.peak(1, checkpointing=True) == needs.peak(2, checkpointing=True)  # a pair is never parted


@pytest.fixture
def preferring(tiny_llava: Path, tmp_path: Path) -> Config:
    write_folder(tmp_path / "data", "pairs")
    return partial(preference_config, tmp_path, tiny_llava, tmp_path / "data")


def reckoned(path: Path, *more: str) -> dict[str, Any]:
    out = path.parent / "budget.json"
    assert main(["budget", "--config", str(path), "--format", "json", "--output", str(out), *more]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.slow
def test_the_row_is_that_of_pairs_and_the_reference_is_told(preferring: Config) -> None:
    path = preferring()
    found = reckoned(path)
    assert found["pairs"] == {"rows": 1, "apart": None, "corrupt": None, "reference": "live", "from_adapter": False}
    longest = prepared(["--config", str(path)]).datamodule.longest_step(1).micro_batches[0]
    assert found["row"]["length"] == longest.labels.shape[1]
    assert found["row"]["supervised"] == longest.supervised_tokens > 4
    (own,) = (recipe for recipe in found["recipes"] if recipe["configured"])
    assert "reference_copies" not in own
    first = own["micro_batches"][0]
    assert 0 < first["reference"] <= first["peak"]
    apart = reckoned(preferring(data={"packing": False}))
    assert (apart["pairs"]["rows"], apart["pairs"]["apart"]) == (2, "data.packing is false")
    assert apart["row"]["length"] < found["row"]["length"]


@pytest.mark.slow
def test_mdpo_takes_another_row_and_a_stored_reference_no_pass_of_a_step(
    preferring: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {"losses": MDPO, "reference_store": str(tmp_path / "store")}
    found = reckoned(preferring(model=kept, data={"corrupt": "crop"}))
    assert (found["pairs"]["rows"], found["pairs"]["corrupt"], found["pairs"]["reference"]) == (2, "crop", "stored")
    assert main(["budget", "--config", str(preferring(model=kept, data={"corrupt": "crop"}))]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "the chosen one has another behind its corrupted picture: a pair takes 2 rows" in text
    assert "The reference is asked once, before the first step" in text
    assert "1: a pass of the reference" in text
    assert main(["budget", "--config", str(preferring(model={"losses": MDPO}))]) == 2
    assert "data.corrupt asks for none" in capsys.readouterr().err
    simpo = reckoned(preferring(model={"losses": [{"name": "simpo"}]}))
    assert simpo["pairs"]["reference"] is None
    assert "reference" not in simpo["recipes"][0]["micro_batches"][0]


@pytest.mark.slow
def test_a_run_that_begins_at_an_adapter_keeps_a_copy_of_it(
    preferring: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = preferring(trainer={"limit_val_batches": 0})
    real = fit(first).model
    shutil.move(run_dir(first) / "adapter", tmp_path / "sft")
    path = preferring(model={"adapter": str(tmp_path / "sft")})
    (own,) = (recipe for recipe in reckoned(path)["recipes"] if recipe["configured"])
    assert own["reference_copies"] == tensor_bytes(real.trainable_parameters()) == own["memory"]["trained"]
    before = sum(own["memory"][name] for name in ("quantized", "constants", "frozen", "trained", "gradients"))
    assert own["memory"]["between_steps"] == before + own["memory"]["optimizer"]["states"] + own["reference_copies"]
    assert main(["budget", "--config", str(path)]) == 0
    assert "the reference's copy of what is trained" in capsys.readouterr().out
