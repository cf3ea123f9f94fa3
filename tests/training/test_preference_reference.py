"""Tests of equality 9 (referenced): the reference of a run is its start, to the bit, after any number of steps."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree
from typing import Final

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support import family_cases as cases
from tests.support import tiny_models
from tests.support.pair_cases import module, move, preferences, step
from tests.support.pairs import preference_config, write_folder
from tests.support.runs import fit, scalars, verb
from vlm_lit.data.rows.pairs import PairBatch, PairCollator
from vlm_lit.models.adapter_state import base_identity, save_adapter
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.schema import Preference, StepBatch, TokenBatch
from vlm_lit.training import reference_store
from vlm_lit.training.pair_figures import FIGURES
from vlm_lit.training.preference import PreferenceModule
from vlm_lit.training.reference_store import ReferenceStore
from vlm_lit.training.referenced import ReferencedModule

FP32: Final = cases.FP32
FULL: Final = PartSettings(precision="fp32", training="full")
LORA: Final = PartSettings(precision="fp32", training="lora")
PARTS: Final[dict[str, PartsSettings]] = {
    "nf4 with lora, projector in full": cases.parts(),
    "lora alone": cases.parts(projector=FP32),
    "projector alone": cases.parts(language_model=FP32),
    "lora everywhere": cases.parts(vision_tower=LORA, projector=LORA),
    "everything in full": cases.parts(vision_tower=FULL, language_model=FULL, head=FULL),
}


def sft(folder: Path, into: Path, parts: PartsSettings | None = None) -> Path:
    """The saved adapter of a run before."""
    tuned = module(folder, parts=parts)
    assert tuned.model is not None
    save_adapter(tuned.model, into / "sft", {"base": base_identity(str(folder), None, None)})
    return into / "sft"


def steps(made: PreferenceModule, folder: Path, count: int) -> None:
    optimizer = torch.optim.AdamW(made.trainable_parameters(), lr=1e-2)
    for _ in range(count):
        optimizer.zero_grad()
        for batch in step(folder, preferences()).micro_batches:
            made.loss(batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def by_reference(made: PreferenceModule, folder: Path) -> list[Tensor]:
    return [made.reference_log_probs(batch) for batch in step(folder, preferences()).micro_batches]


def by_policy(made: PreferenceModule, folder: Path) -> list[Tensor]:
    batches = step(folder, preferences()).micro_batches
    with torch.no_grad():
        found = [made.log_probs(batch) for batch in batches]
    return [torch.stack([pairs.chosen, pairs.rejected], 1).flatten() for pairs in found]


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("adapted", [False, True], ids=["from the base", "from an adapter"])
def test_equality_9_the_reference_is_the_start_after_any_steps(
    parts: str, adapted: bool, tiny_llava: Path, tmp_path: Path
) -> None:
    adapter = sft(tiny_llava, tmp_path, PARTS[parts]) if adapted else None
    made = module(tiny_llava, moved=False, parts=PARTS[parts], adapter=adapter)
    before, start = by_reference(made, tiny_llava), by_policy(made, tiny_llava)
    assert all(map(torch.equal, before, start))
    steps(made, tiny_llava, 5)
    assert all(map(torch.equal, by_reference(made, tiny_llava), before))
    assert not any(map(torch.equal, by_policy(made, tiny_llava), start))
    # A model that is loaded anew is the same start; the base is another where the run began at an adapter.
    fresh = module(tiny_llava, moved=False, parts=PARTS[parts], adapter=adapter)
    assert all(map(torch.equal, by_policy(fresh, tiny_llava), before))
    base = module(tiny_llava, moved=False, parts=PARTS[parts])
    assert all(map(torch.equal, by_policy(base, tiny_llava), before)) is not adapted


@pytest.mark.parametrize("adapted", [False, True])
def test_the_model_is_the_policy_again_behind_the_reference(adapted: bool, tiny_llava: Path, tmp_path: Path) -> None:
    adapter = sft(tiny_llava, tmp_path) if adapted else None
    made = module(tiny_llava, moved=False, adapter=adapter)
    move(made, seed=9)
    names = [name for name, p in made.named_parameters() if p.requires_grad]
    kept = {name: p.detach().clone() for name, p in made.named_parameters()}
    with made.reference.in_place():
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    with pytest.raises(RuntimeError), made.reference.in_place():
        torch.zeros(2) @ torch.zeros(3)
    by_reference(made, tiny_llava)
    assert [name for name, p in made.named_parameters() if p.requires_grad] == names
    assert all(torch.equal(p, kept[name]) for name, p in made.named_parameters())


def test_a_checkpoint_that_is_put_on_the_model_is_not_the_reference(tiny_llava: Path, tmp_path: Path) -> None:
    adapter = sft(tiny_llava, tmp_path)
    start = by_policy(module(tiny_llava, moved=False, adapter=adapter), tiny_llava)
    resumed = module(tiny_llava, moved=False, adapter=adapter)
    move(resumed, seed=9)
    assert all(map(torch.equal, by_reference(resumed, tiny_llava), start))


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("asked", [False, True])
def test_dropout_is_off_unless_asked_for_and_never_in_the_reference(
    asked: bool, adapted: bool, tiny_llava: Path, tmp_path: Path
) -> None:
    adapter = sft(tiny_llava, tmp_path) if adapted else None
    made = module(tiny_llava, adapter=adapter, lora_dropout=0.5, dropout=asked)
    made.train()
    (batch,) = step(tiny_llava, preferences()).micro_batches

    def twice() -> tuple[list[Tensor], list[Tensor]]:
        torch.manual_seed(1)
        pairs = made.log_probs(batch)
        torch.manual_seed(2)
        again = made.log_probs(batch)
        assert pairs.reference_chosen is not None
        assert again.reference_chosen is not None
        return [pairs.chosen, again.chosen], [pairs.reference_chosen, again.reference_chosen]

    policy, reference = twice()
    assert torch.equal(*policy) is not asked
    assert torch.equal(*reference)
    assert made.training
    layers = [m for m in made.modules() if isinstance(m, torch.nn.Dropout)]
    assert any(layer.training for layer in layers) is asked
    # The layers themselves train: activations are recomputed in training alone.
    assert made.base.get_submodule("model.language_model").training


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Takes how many pairs the reference is asked about, each time."""
    asked: list[int] = []
    answers = ReferencedModule.reference_log_probs

    def noted(self: ReferencedModule, batch: TokenBatch) -> Tensor:
        asked.append(len(batch.ids) // 2)
        return answers(self, batch)

    monkeypatch.setattr(ReferencedModule, "reference_log_probs", noted)
    return asked


def test_equality_9_stored_equals_live_and_is_computed_once(
    tiny_llava: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = preference_config(tmp_path, tiny_llava, pairs, data={"micro_batch": 8})
    fit(path, "--run_dir", str(tmp_path / "live"))
    kept = f"--model.init_args.reference_store={tmp_path / 'store'}"
    asked = counted(monkeypatch)
    fit(path, "--run_dir", str(tmp_path / "stored"), kept)
    assert sum(asked) == 20  # each pair once, ahead
    asked.clear()
    fit(path, "--run_dir", str(tmp_path / "again"), kept, "--seed_everything=8", "--model.init_args.lora.rank=4")
    assert asked == []  # neither the seed nor the rank is of the base
    fit(path, "--run_dir", str(tmp_path / "stored"), kept, "--overwrite")
    live, stored = (scalars(tmp_path / name) for name in ("live", "stored"))
    for name in ("loss", "gradient_norm", *FIGURES):
        ours, theirs = ([value for _, value in run[f"train/{name}"]] for run in (stored, live))
        # A pair's log-probability in float32, computed beside others than in its step.
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5), name
    (file,) = (tmp_path / "store").iterdir()
    assert len(json.loads(file.read_text())["log_probs"]) == 20


def test_a_store_is_filled_from_workers_with_the_same_values(
    tiny_llava: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makers, collate = tmp_path / "makers.txt", PairCollator.collate

    def noted(self: PairCollator, items: Sequence[Preference]) -> StepBatch[PairBatch]:
        with makers.open("a") as file:
            file.write(f"{os.getpid()} {len(items)}\n")
        return collate(self, items)

    monkeypatch.setattr(PairCollator, "collate", noted)
    kept = {}
    for workers in (0, 2):
        makers.write_text("")
        folder = tmp_path / f"workers {workers}"
        folder.mkdir()
        path = preference_config(
            folder,
            tiny_llava,
            pairs,
            model={"reference_store": str(folder / "store")},
            data={"num_workers": workers, "effective_batch": 2},
            trainer={"max_steps": 1, "limit_val_batches": 0},
        )
        fit(path)
        lines = [line.split() for line in makers.read_text().splitlines()]
        assert sorted(items for _, items in lines if items != "2") == ["4", "8", "8"]  # 20 pairs, eight at a time
        assert (str(os.getpid()) in {process for process, _ in lines}) is (workers == 0)
        (file,) = (folder / "store").iterdir()
        kept[workers] = json.loads(file.read_text())["log_probs"]
    assert kept[2] == kept[0]
    assert len(kept[0]) == 20


def test_a_filling_that_is_interrupted_goes_on_where_it_was(
    tiny_llava: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = preference_config(
        tmp_path,
        tiny_llava,
        pairs,
        model={"reference_store": str(tmp_path / "store")},
        data={"micro_batch": 8},
        trainer={"max_steps": 1, "limit_val_batches": 0},
    )
    monkeypatch.setattr(reference_store, "SAVE_EVERY", 0.0)
    answers = ReferencedModule.reference_log_probs

    def interrupted(self: ReferencedModule, batch: TokenBatch) -> Tensor:
        if (tmp_path / "store").exists():
            raise MemoryError("the machine has other plans")
        return answers(self, batch)

    with monkeypatch.context() as once:
        once.setattr(ReferencedModule, "reference_log_probs", interrupted)
        with pytest.raises(MemoryError, match="other plans"):
            fit(path)
    (file,) = (tmp_path / "store").iterdir()
    kept = len(json.loads(file.read_text())["log_probs"])
    assert kept == 8  # the first of 8, 8 and 4 pairs
    asked = counted(monkeypatch)
    fit(path, "--overwrite")
    assert sum(asked) == 20 - kept


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"identity": 1', "nothing", '{"identity": IDENTITY}', '{"identity": IDENTITY, "log_probs": [1]}',
     '{"identity": IDENTITY, "log_probs": {"a": 1}}', '{"identity": IDENTITY, "log_probs": {"a": ["x", -1.0]}}',
     '{"identity": IDENTITY, "log_probs": {"a": [NaN, -1.0]}}', "[" * 5000],
)  # fmt: skip
def test_a_store_of_another_form_holds_nothing(content: str, tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, {"base": "abc"})
    store.write({"a": (-1.0, -2.0)})
    assert store.read() == {"a": (-1.0, -2.0)}
    store.file.write_text(content.replace("IDENTITY", json.dumps(store.identity)))
    assert store.read() == {}


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("what", ["answer", "picture", "checkpoint", "prompt", "attention"])
def test_what_differs_is_computed_anew(
    what: str, tiny_llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set, model = tmp_path / "data", tmp_path / "model"
    write_folder(data_set, "pairs")
    copytree(tiny_llava, model)
    path = preference_config(tmp_path, model, data_set, trainer={"max_steps": 1, "limit_val_batches": 0})
    kept = [f"--model.init_args.reference_store={tmp_path / 'store'}", "--overwrite"]
    fit(path, *kept)
    rows = json.loads((data_set / "train.json").read_text())
    expected = 25  # 20 of training and 6 of validation, of which one is both
    if what == "answer":
        rows[3]["rejected"] += ", or is it"
        (data_set / "train.json").write_text(json.dumps(rows))
        expected = 1
    elif what == "picture":
        tiny_models.picture(77).save(data_set / rows[5]["image"])
        expected = 2  # they are about one picture
    elif what == "checkpoint":
        weights = load_file(model / "model.safetensors")
        name = next(name for name in weights if name.endswith("q_proj.weight"))
        save_file({**weights, name: weights[name] * 1.5}, model / "model.safetensors", {"format": "pt"})
    elif what == "prompt":
        kept.append("--data.init_args.prompt={question} Be brief.")
    else:
        kept.append("--model.init_args.attention=eager")
    computed = counted(monkeypatch)
    fit(path, *kept)
    assert sum(computed) == expected


def test_a_stored_reference_is_not_for_streams(
    tiny_llava: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = preference_config(
        tmp_path,
        tiny_llava,
        pairs,
        model={"reference_store": str(tmp_path / "store")},
        data={"train": {"path": str(pairs / "train.json"), "streaming": True}, "val": None},
        trainer={"max_steps": 2, "max_epochs": -1},
    )
    assert verb("fit", path) == 2
    assert "model.reference_store: data.train is streamed" in capsys.readouterr().err
