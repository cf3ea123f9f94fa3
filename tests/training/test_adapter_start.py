"""Tests of the start from a saved adapter: it belongs to the run's base, and is read only where it is needed."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from safetensors.torch import load_file, save_file

from tests.support import small_config
from tests.support.loaded import FP32, settings
from tests.support.runs import fit, predictions, verb
from vlm_lit import ConversationDataModule, PreferenceModule, SupervisedModule
from vlm_lit.cli import main
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import FINGERPRINT, base_identity, save_adapter, trainable_state
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings
from vlm_lit.models.quantization import QuantizationSettings

PARTS = settings(projector=FP32, language_model=PartSettings(precision="fp32", training="lora"))
COMMIT, OTHER = "a" * 40, "b" * 40


def module(base: Path, adapter: Path | None, kind: type[SupervisedModule | PreferenceModule] = SupervisedModule) -> Any:
    return kind(str(base), parts=PARTS, lora=LoraSettings(), adapter=None if adapter is None else str(adapter))


def kept(base: Path, folder: Path, **named: object) -> Path:
    """A saved adapter whose fingerprint names this base."""
    made = module(base, None)
    made.configure_model()
    save_adapter(made.model, folder, {"base": {**base_identity(str(base), None, None), **named}})
    return folder


@pytest.mark.parametrize("kind", [SupervisedModule, PreferenceModule])
def test_an_adapter_of_another_base_is_refused(
    kind: type[SupervisedModule | PreferenceModule], tiny_llava: Path, tmp_path: Path
) -> None:
    adapter = kept(tiny_llava, tmp_path / "adapter")
    same, other = (Path(shutil.copytree(tiny_llava, tmp_path / name)) for name in ("same", "other"))
    module(same, adapter, kind).configure_model()
    state = load_file(tiny_llava / "model.safetensors")
    first = next(iter(state))
    save_file({**state, first: state[first] + 1e-3}, other / "model.safetensors", metadata={"format": "pt"})
    words = (
        r"not the one the adapter was trained on: the SHA-256 of model\.safetensors .* Set model\.init_args\.model_id"
    )
    with pytest.raises(ConfigError, match=words):
        module(other, adapter, kind).configure_model()


def test_the_commit_is_compared_where_it_is_all_that_is_known(tiny_llava: Path, tmp_path: Path) -> None:
    adapter = kept(tiny_llava, tmp_path / "adapter", commit=COMMIT, weights_sha256={})
    same, other = (Path(shutil.copytree(tiny_llava, tmp_path / "snapshots" / name)) for name in (COMMIT, OTHER))
    module(same, adapter).configure_model()
    with pytest.raises(ConfigError, match=f"it is commit {OTHER}, was {COMMIT}"):
        module(other, adapter).configure_model()
    with pytest.warns(UserWarning, match="Nothing shows whether .* is the base that the adapter in"):
        module(tiny_llava, adapter).configure_model()


def loftq(base: Path, adapter: Path | None, precision: Any = "nf4", start: Any = "loftq", double: bool = True) -> Any:
    parts = settings(projector=FP32, language_model=PartSettings(precision=precision, training="lora"))
    return SupervisedModule(
        str(base),
        parts=parts,
        lora=LoraSettings(start=start, rank=8),
        quantization=QuantizationSettings(compute_dtype="fp32", double_quant=double),
        adapter=None if adapter is None else str(adapter),
    )


def test_a_loftq_adapter_goes_on_where_it_began_and_is_called_so(tiny_llava: Path, tmp_path: Path) -> None:
    first = loftq(tiny_llava, None)
    first.configure_model()
    save_adapter(first.model, tmp_path / "adapter", first.identity)
    second = loftq(tiny_llava, tmp_path / "adapter")
    second.configure_model()
    assert second.identity["lora"]["start"] == "loftq"  # what `merge` goes by
    own, kept = trainable_state(second.model), trainable_state(first.model)
    assert all(torch.equal(own[name], kept[name]) for name in kept)
    for changed, words in (
        ({"start": "random"}, r"lora\.start is random, .* began with loftq: .* Set lora\.start to loftq"),
        ({"precision": "fp4"}, r"parts\.language_model\.precision was nf4, and is fp4 here\. Set it to nf4"),
        ({"precision": "bf16", "start": "random"}, r"Set lora\.start to loftq"),
        ({"double": False}, r"quantization\.double_quant was True, and is False here"),
    ):
        with pytest.raises(ConfigError, match=words):
            loftq(tiny_llava, tmp_path / "adapter", **changed).configure_model()


def test_another_adapter_is_not_called_loftq(tiny_llava: Path, tmp_path: Path) -> None:
    first = loftq(tiny_llava, None, start="random")
    first.configure_model()
    save_adapter(first.model, tmp_path / "adapter", first.identity)
    for folder in (tmp_path / "adapter", without_fingerprint(tmp_path / "adapter", tmp_path / "plain")):
        loftq(tiny_llava, folder, start="random").configure_model()
        with pytest.raises(
            ConfigError, match=r"lora\.start is loftq, .* began with random: .* Set lora\.start to random"
        ):
            loftq(tiny_llava, folder).configure_model()


def without_fingerprint(adapter: Path, copy: Path) -> Path:
    shutil.copytree(adapter, copy, ignore=shutil.ignore_patterns(FINGERPRINT))
    return copy


def of_others(base: Path, folder: Path, named: str) -> Path:
    """An adapter as TRL leaves it: PEFT's files with the processor's beside them, and no fingerprint."""
    made = module(base, None)
    made.configure_model()
    made.model.save_pretrained(folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": named}))
    for file in (*base.glob("*.jinja"), *base.glob("tokenizer*")):
        shutil.copyfile(file, folder / file.name)
    return folder


def said(base: Path, adapter: Path, data_set: Path) -> list[str]:
    """What a run warns of that starts from an adapter."""
    start, trainer = module(base, adapter), Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    data = ConversationDataModule(str(base), val=SourceSettings(path=str(data_set / "val.json")))
    data.trainer, trainer.datamodule, start.trainer = trainer, data, trainer  # type: ignore[attr-defined]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        start.configure_model()
    return [str(one.message) for one in found if issubclass(one.category, UserWarning)]


def test_an_adapter_of_others_that_names_this_base_is_taken_in_silence(
    tiny_llava: Path, small: Path, tmp_path: Path
) -> None:
    name = tiny_llava.name
    copies = f"unsloth/{name}-unsloth-bnb-4bit", f"/hub/models--b--{name}/snapshots/abc"
    for i, named in enumerate((str(tiny_llava), f"elsewhere/{name}", *copies)):
        assert said(tiny_llava, of_others(tiny_llava, tmp_path / str(i), named), small) == []


def test_what_an_adapter_of_others_was_trained_otherwise_on_is_said(
    tiny_llava: Path, small: Path, tmp_path: Path
) -> None:
    adapter = of_others(tiny_llava, tmp_path / "adapter", "llava-hf/bakLlava-v1-hf")
    (adapter / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    tokens = json.loads((adapter / "tokenizer.json").read_text(encoding="utf-8"))
    tokens["added_tokens"].append({"id": 999, "content": "<chart>"})
    (adapter / "tokenizer.json").write_text(json.dumps(tokens), encoding="utf-8")
    base, template, more = said(tiny_llava, adapter, small)
    assert f"names llava-hf/bakLlava-v1-hf as its base, and this run has {tiny_llava}" in base
    assert template.startswith(f"{adapter} holds another chat template than {tiny_llava}")
    assert "has 1 tokens that" in more
    assert "'<chart>'" in more


@pytest.fixture(scope="module")
def begun(tiny_llava: Path, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a finished run that began from an adapter in `start`, beside it."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "first").mkdir()
    fit(small_config.write(folder / "first", tiny_llava, small))
    shutil.copytree(folder / "first" / "run" / "adapter", folder / "start")
    path = small_config.write(folder, tiny_llava, small, model={"adapter": str(folder / "start")})
    fit(path)
    return path


def test_the_start_is_not_read_where_a_checkpoint_is_to_be_loaded(tiny_llava: Path, tmp_path: Path) -> None:
    goes_on = module(tiny_llava, tmp_path / "gone")
    goes_on.start_is_kept = True
    goes_on.configure_model()
    with pytest.raises(ConfigError, match="holds no adapter_model"):
        module(tiny_llava, tmp_path / "gone").configure_model()


@pytest.mark.slow
def test_a_run_needs_its_start_no_more_once_it_has_a_checkpoint(begun: Path, tmp_path: Path) -> None:
    run = begun.parent / "run"
    assert main(["test", "--from", str(run), "--run_dir", str(tmp_path / "before")]) == 0
    shutil.move(begun.parent / "start", begun.parent / "elsewhere")
    assert main(["test", "--from", str(run), "--run_dir", str(tmp_path / "after")]) == 0
    assert predictions(tmp_path / "after") == predictions(tmp_path / "before")
    assert verb("fit", begun, "--ckpt_path", "last", "--trainer.max_epochs", "2") == 0
    assert (run / "checkpoints" / "step-000006.ckpt").is_file()


def test_a_reference_is_read_wherever_the_policy_goes_on_from(tiny_llava: Path, tmp_path: Path) -> None:
    policy = module(tiny_llava, tmp_path / "gone", PreferenceModule)
    policy.start_is_kept = True
    with pytest.raises(ConfigError, match="holds no adapter_model"):
        policy.configure_model()
