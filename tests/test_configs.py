"""Tests of configs/: every config is understood, every runnable one trains on its family's tiny model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers.integrations import replace_with_bnb_linear

from tests.support import class_runs, pairs, small_tables
from vlm_lit.cli import main
from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.models.adapters import attach_adapters
from vlm_lit.models.families import FAMILIES, PART_NAMES
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings, PartsSettings, parts_table, trainable_percent
from vlm_lit.models.quantization import QuantizationSettings, quantization_config
from vlm_lit.training.supervised import SupervisedModule

CONFIGS = Path(__file__).parent.parent / "configs"
RUNNABLE = sorted(p for folder in (CONFIGS, CONFIGS / "paper") for p in folder.glob("*.yaml"))
CLASSIFYING = [path for path in RUNNABLE if path.stem.startswith("vilt")]
PREFERRING = [path for path in RUNNABLE if path.stem.endswith(("_dpo", "_mdpo", "_mpo", "_rlaifv", "_cookbook"))]
GENERATING = [path for path in RUNNABLE if path not in (*CLASSIFYING, *PREFERRING)]
OVERLAYS = sorted((CONFIGS / "overlay").glob("*.yaml"))
LOSSES_OVERLAYS = ("ipo", "mdpo", "mpo", "orpo", "simpo")
PARTS = sorted(p for folder in ("trainer", "model", "data") for p in (CONFIGS / folder).glob("*.yaml"))

LAID_OVER = [CONFIGS / "trainer" / f"{name}.yaml" for name in ("ddp", "frozen_sharded", "slurm")]
"""Trainers that are laid over that of any config: --trainer configs/trainer/ddp.yaml."""


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The whole config that these arguments amount to."""
    with pytest.raises(SystemExit) as stop:
        main(["fit", *arguments, "--print_config"])
    assert stop.value.code == 0
    loaded: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return loaded


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda p: p.stem)
def test_runnable_configs_are_understood(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = printed(capsys, "--config", str(path))
    assert whole["data"]["init_args"]["train"]["path"]
    assert whole["run_dir"] != "runs/run"


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda p: p.stem)
def test_overlays_change_what_they_say(overlay: Path, capsys: pytest.CaptureFixture[str]) -> None:
    below = CONFIGS / ("smolvlm_dpo.yaml" if overlay.stem in LOSSES_OVERLAYS else "easy_vqa.yaml")
    base = printed(capsys, "--config", str(below))
    changed = printed(capsys, "--config", str(below), "--config", str(overlay))
    assert changed != base
    for key in ("model", "data"):
        assert changed[key]["class_path"] == base[key]["class_path"]
        assert set(changed[key]["init_args"]) == set(base[key]["init_args"])


def test_every_part_is_used_by_a_runnable_config() -> None:
    named = "".join(path.read_text() for path in RUNNABLE)
    assert [p for p in PARTS if f"{p.parent.name}/{p.name}" not in named and p not in LAID_OVER] == []


@pytest.mark.parametrize("path", LAID_OVER, ids=lambda p: p.stem)
def test_a_trainer_for_several_devices_is_laid_over_any(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = printed(capsys, "--config", str(CONFIGS / "llava15_7b_qlora.yaml"))
    changed = printed(capsys, "--config", str(CONFIGS / "llava15_7b_qlora.yaml"), "--trainer", str(path))
    different = {name for name, value in changed["trainer"].items() if value != base["trainer"][name]}
    assert different == {"strategy", "enable_progress_bar" if path.stem == "slurm" else "devices"}
    assert changed["trainer"]["precision"] == "bf16-mixed"


def test_overlays_never_change_the_class_of_model_or_data() -> None:
    for path in OVERLAYS:
        settings = yaml.safe_load(path.read_text())
        assert all("class_path" not in settings.get(key, {}) for key in ("model", "data")), path


def stand_ins(path: Path, small: Path, tmp_path: Path) -> list[str]:
    """Options that point a config at small files in its data set's columns."""
    data = yaml.safe_load((path.parent / yaml.safe_load(path.read_text())["data"]).read_text())["init_args"]
    source = data["train"]["path"]
    if "ChartQA" in source:
        file = small_tables.write_charts(tmp_path, 8)
    elif "chart_tables" in source:
        file = small_tables.write_charts(tmp_path, 8, '{"title": "Lamps", "unit": "", "values": {"14": 3}}')
    elif "product" in source and not source.endswith(".jsonl"):
        file = small_tables.write_products(tmp_path, 20)
    elif source.endswith(".jsonl"):
        file = small_tables.write_messages(tmp_path, 20)
    else:
        return [f"--data.init_args.{part}.path={small / f'{part}.json'}" for part in ("train", "val")]
    return [f"--data.init_args.{part}.path={file}" for part in ("train", "val")]


def family_of_config(path: Path) -> str:
    """The tiny family that stands in for the checkpoint a config names."""
    model = yaml.safe_load((path.parent / yaml.safe_load(path.read_text())["model"]).read_text())["init_args"]
    names = {
        "SmolVLM": "smolvlm", "Qwen2-VL": "qwen2_vl", "llava": "llava", "base": "llava", "vilt": "vilt",
        "Idefics3": "idefics3", "internvl3": "internvl",
    }  # fmt: skip
    (found,) = (family for name, family in names.items() if name in model["model_id"])
    return found


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("path", GENERATING, ids=lambda p: p.stem)
def test_runnable_configs_train_two_steps_on_the_tiny_model_of_their_family(
    path: Path, folders: dict[str, Path], small: Path, tmp_path: Path
) -> None:
    name = family_of_config(path)
    cli = VlmLitCLI(
        "fit",
        [
            f"--config={path}", f"--run_dir={tmp_path}", f"--model.init_args.model_id={folders[name]}",
            *stand_ins(path, small, tmp_path), "--data.init_args.num_workers=0",
            "--model.init_args.max_new_tokens=4", "--trainer.accelerator=cpu", "--trainer.devices=1",
            "--trainer.max_steps=2", "--trainer.limit_val_batches=1", "--trainer.log_every_n_steps=1",
        ],
    )  # fmt: skip
    assert cli.trainer.global_step == min(2, cli.datamodule.total_steps)
    assert torch.isfinite(cli.trainer.logged_metrics["train/loss"])
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    assert isinstance(cli.model, SupervisedModule)
    assert {row.modules_4bit for row in cli.model.parts_table() if row.part != "language_model"} == {0}


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("path", CLASSIFYING, ids=lambda p: p.stem)
def test_runnable_configs_of_classifiers_train_two_steps(path: Path, tmp_path: Path) -> None:
    folder, head = class_runs.checkpoint(tmp_path / "vilt"), tmp_path / "run"
    files = {part: class_runs.write_questions(tmp_path, part, 24) for part in ("train", "val")}
    cli = VlmLitCLI(
        "fit",
        [
            f"--config={path}", f"--run_dir={head}", f"--model.init_args.model_id={folder}",
            *(f"--data.init_args.{part}.path={file}" for part, file in files.items()),
            *(f"--data.init_args.{p}.{key}=null" for p in files for key in ("annotations", "image_name", "image_root")),
            "--data.init_args.test=null", "--data.init_args.vocabulary.least_count=1", "--data.init_args.num_workers=0",
            "--data.init_args.effective_batch=8", "--trainer.accelerator=cpu", "--trainer.devices=1",
            "--trainer.precision=32-true", "--trainer.max_steps=2", "--trainer.limit_val_batches=1",
            "--trainer.log_every_n_steps=1",
        ],
    )  # fmt: skip
    assert cli.trainer.global_step == 2
    assert torch.isfinite(cli.trainer.logged_metrics["train/loss"])
    assert (head / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("path", PREFERRING, ids=lambda p: p.stem)
def test_runnable_configs_of_preferences_train_two_steps(path: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    run, file = tmp_path / "run", pairs.write_pairs(tmp_path, 8)
    given = yaml.safe_load((path.parent / yaml.safe_load(path.read_text())["data"]).read_text())["init_args"]
    held = "ChartQA" in str(given.get("val"))
    val = small_tables.write_charts(tmp_path, 8) if held else file
    cli = VlmLitCLI(
        "fit",
        [
            f"--config={path}", f"--run_dir={run}", "--model.init_args.adapter=null",
            f"--model.init_args.model_id={folders[family_of_config(path)]}",
            f"--data.init_args.train.path={file}", "--data.init_args.train.image_root=null",
            "--data.init_args.train.split=train", "--data.init_args.test=null",
            *([f"--data.init_args.val.path={val}", "--data.init_args.val.split=train"] if "val" in given else []),
            "--data.init_args.num_workers=0", "--data.init_args.effective_batch=4", "--data.init_args.micro_batch=2",
            *(["--model.init_args.reference_store=null"] if path.parent.name == "paper" else
              [f"--model.init_args.reference_store={tmp_path / 'reference'}"]),
            "--model.init_args.max_new_tokens=4", "--trainer.accelerator=cpu", "--trainer.devices=1",
            "--trainer.max_steps=2", "--trainer.limit_val_batches=1", "--trainer.log_every_n_steps=1",
        ],
    )  # fmt: skip
    assert cli.trainer.global_step == 2
    assert torch.isfinite(cli.trainer.logged_metrics["train/loss"])
    assert cli.trainer.logged_metrics["train/lengths/chosen"] > 0
    assert (run / "adapter").is_dir()


def test_smolvlm_goes_on_from_the_adapter_of_its_first_run(capsys: pytest.CaptureFixture[str]) -> None:
    first, then = (
        printed(capsys, "--config", str(CONFIGS / name)) for name in ("smolvlm_chartqa_qlora.yaml", "smolvlm_dpo.yaml")
    )
    assert then["model"]["init_args"]["adapter"] == f"{first['run_dir']}/adapter"
    for key in ("model_id", "quantization", "lora"):
        assert then["model"]["init_args"][key] == first["model"]["init_args"][key]
    assert {k: v["precision"] for k, v in then["model"]["init_args"]["parts"].items()} == {
        k: v["precision"] for k, v in first["model"]["init_args"]["parts"].items()
    }
    assert then["data"]["init_args"]["system"] == first["data"]["init_args"]["system"]
    for split in ("val", "test"):
        assert then["data"]["init_args"][split] == first["data"]["init_args"][split]


def llava_7b() -> torch.nn.Module:
    """LLaVA-1.5-7B's shape on the meta device: no memory, no weights."""
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
        projection_dim=768,
    )
    text = LlamaConfig(vocab_size=32064, max_position_embeddings=4096)  # Llama's defaults are the 7B shape
    with torch.device("meta"):
        model: torch.nn.Module = AutoModelForImageTextToText.from_config(
            LlavaConfig(vision_config=vision, text_config=text), dtype=torch.bfloat16
        )
    return model


def test_the_7b_config_trains_what_it_says_at_the_real_shape(capsys: pytest.CaptureFixture[str]) -> None:
    asked = printed(capsys, "--config", str(CONFIGS / "llava15_7b_qlora.yaml"))
    settings = asked["model"]["init_args"]
    parts = PartsSettings(**{name: PartSettings(**settings["parts"][name]) for name in PART_NAMES})
    family, model = FAMILIES["llava"], llava_7b()
    bits = quantization_config(parts.precisions, family, QuantizationSettings(**settings["quantization"]))
    assert isinstance(bits, BitsAndBytesConfig)
    replace_with_bnb_linear(model, modules_to_not_convert=bits.llm_int8_skip_modules, quantization_config=bits)
    adapted = attach_adapters(model, family, parts, LoraSettings(**settings["lora"]), seed=0)
    rows = {row.part: row for row in parts_table(adapted.get_base_model(), family, parts, 1e-4)}
    # By hand: the projector is 1024 x 4096 + 4096 + 4096 x 4096 + 4096; LoRA is 32 layers x 4 x 16 x (4096 + 4096).
    assert rows["projector"].trainable == rows["projector"].parameters == 20_979_712
    assert rows["language_model"].trainable == 16_777_216
    assert rows["language_model"].modules_4bit == 32 * 7
    assert rows["language_model"].parameters == 6_607_343_616 + 64 * 4096  # Llama-7B less its head, 64 more words
    assert rows["head"].parameters == 32064 * 4096
    assert rows["vision_tower"].trainable == rows["head"].trainable == 0
    assert rows["vision_tower"].modules_4bit == rows["head"].modules_4bit == 0
    assert (rows["projector"].lr, rows["language_model"].lr) == (2e-5, 2e-4)
    assert 0.5 < trainable_percent(list(rows.values())) < 0.6
    assert asked["data"]["init_args"]["effective_batch"] == 16


def test_no_config_names_a_path_of_one_machine() -> None:
    for path in CONFIGS.rglob("*.yaml"):
        assert not re.search(r"(?m)[:\s]/(?!/)\w", path.read_text()), path
