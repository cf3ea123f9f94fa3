"""Tests of `budget` for LLaVA-1.5-7B: full fine-tuning, LoRA and QLoRA, and which of them fits 24 GB.

The sizes are those of llava-hf/llava-1.5-7b-hf, written out; the sums are done by hand here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlm_lit.cli import main
from vlm_lit.commands.unopened_run import unopened
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.loading import load_config
from vlm_lit.models.stored_bytes import holdings
from vlm_lit.preflight.budget.estimate import Estimator
from vlm_lit.preflight.budget.hollow_module import hollow_module
from vlm_lit.preflight.budget.needs import PURPOSES
from vlm_lit.preflight.budget.recipes import recipes
from vlm_lit.preflight.budget.step import optimizer_bytes

CONFIG = Path(__file__).parents[2] / "configs" / "llava15_7b_qlora.yaml"
SIZES = {
    "architectures": ["LlavaForConditionalGeneration"],
    "model_type": "llava",
    "image_token_index": 32000,
    "image_seq_length": 576,
    "vision_feature_layer": -2,
    "tie_word_embeddings": False,
    "vision_config": {
        "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
    },
    "text_config": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    },
}  # fmt: skip

# A decoder layer's linear layers: q, k, v, o of 4096 x 4096 and gate, up, down of 4096 x 11008; there are 32 layers.
LINEAR = 32 * (4 * 4096**2 + 3 * 4096 * 11008)  # 6,476,005,376
# Two norms of 4096 a layer and one behind them; an embedding for each of 32,064 words.
OTHER = 32 * 2 * 4096 + 4096 + 32064 * 4096  # 131,600,384
HEAD = 32064 * 4096  # 131,334,144
PROJECTOR = 1024 * 4096 + 4096 + 4096**2 + 4096  # 20,979,712
# CLIP-L/14-336: a layer is q, k, v, o with biases, an MLP of 4096, two norms; class, patch and 577 place embeddings.
TOWER_LAYER = 4 * (1024**2 + 1024) + 2 * 1024 * 4096 + 4096 + 1024 + 2 * 2 * 1024
TOWER = 24 * TOWER_LAYER + 1024 + 3 * 14 * 14 * 1024 + 577 * 1024 + 2 * 2 * 1024  # 303,507,456
ALL = TOWER + PROJECTOR + LINEAR + OTHER + HEAD
# Rank 16 on q, k, v, o: A is 16 x 4096, B is 4096 x 16.
LORA = 32 * 4 * 16 * (4096 + 4096)  # 16,777,216
ADAPTED = LORA + PROJECTOR
FULL = LINEAR + OTHER + HEAD + PROJECTOR
BUFFERS = 10_000  # positions and rotary frequencies, a few kilobytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config.json and nothing else."""
    path = tmp_path_factory.mktemp("llava-1.5-7b")
    (path / "config.json").write_text(json.dumps(SIZES))
    return path


def arguments(folder: Path) -> list[str]:
    return ["--config", str(CONFIG), "--model.init_args.model_id", str(folder)]


def test_the_sizes_add_up_to_the_published_7_06_billion() -> None:
    assert ALL == 7_063_427_072


def test_what_each_way_holds_is_what_is_worked_out_by_hand(folder: Path) -> None:
    run = unopened(arguments(folder))
    run.model.trainer = run.trainer
    config = load_config(str(folder))
    mode = Estimator(run.model, config, run.trainer).mode
    found: dict[str, dict[str, int]] = {}
    for recipe in recipes(run.model.parts, FAMILIES["llava"]):
        module = hollow_module(run.model, config, recipe.parts, mode)
        assert module.family is not None
        held = holdings(module.base, module.family)
        found[recipe.name] = {p: sum(h.size for h in held if h.purpose == p) for p in PURPOSES}
        found[recipe.name]["states"] = optimizer_bytes(module).states
    frozen = 2 * (ALL - PROJECTOR)
    sixteen_bits = frozen - 2 * LINEAR  # what is left at 16 bits where the decoder's linear layers are quantized
    # A byte of absmax for 64 weights; a float32 for 256 of those bytes, and for each of 7 x 32 layers an offset and the
    # tables of 256 and 16 values: 101,187,584 + 4 x (395,264 + 61,152) bytes.
    nf4 = LINEAR // 64 + 4 * (LINEAR // 64 // 256 + 7 * 32 * (1 + 256 + 16))
    # A float32 for each output row: 4096 of q, k, v, o and down, 11008 of gate and up.
    int8 = 4 * 32 * (5 * 4096 + 2 * 11008)
    expected = {
        # The tower, 2 bytes each, and what is trained in float32; PEFT's frozen originals of it are not held.
        "full": {"quantized": 0, "constants": 0, "frozen": 2 * TOWER, "trained": 4 * FULL, "states": 8 * FULL},
        "LoRA": {"quantized": 0, "constants": 0, "frozen": frozen, "trained": 4 * ADAPTED, "states": 8 * ADAPTED},
        "int8": {
            "quantized": LINEAR, "constants": int8, "frozen": sixteen_bits, "trained": 4 * ADAPTED,
            "states": 8 * ADAPTED,
        },
        "QLoRA": {
            "quantized": LINEAR // 2, "constants": nf4, "frozen": sixteen_bits, "trained": 4 * ADAPTED,
            "states": 8 * ADAPTED,
        },
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for name, sizes in expected.items():
        for purpose, size in sizes.items():
            assert found[name][purpose] == pytest.approx(size, abs=BUFFERS), (name, purpose)
    # So between two steps: full 108.8 GB, LoRA 14.7 GB, QLoRA 5.1 GB of 10^9 bytes; gradients are 4 bytes each.
    totals = {name: sum(sizes.values()) + sizes["trained"] for name, sizes in found.items()}
    assert {name: round(size / 1e9, 1) for name, size in totals.items()} == {
        "full": 108.8, "LoRA": 14.7, "int8": 8.2, "QLoRA": 5.1,
    }  # fmt: skip


@pytest.mark.slow
def test_which_fits_24_gigabytes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "budget.json"
    rows = ["--length", "1024", "--supervised", "128"]
    assert main(["budget", *arguments(folder), *rows, "--format", "json", "--output", str(out)]) == 0
    found = json.loads(out.read_text())
    # Features of 1024 in bfloat16.
    assert found["picture"] == {"tokens": 576, "cached": 576 * 1024 * 2, "assumed": None}
    by_name: dict[str, Any] = {recipe["name"]: recipe for recipe in found["recipes"]}
    cards = {name: recipe["gpus"][0] for name, recipe in by_name.items()}
    assert cards["full"]["most_rows"] == 0  # 101.3 GiB before the first row
    # The largest card alone, of 141 GB, holds it.
    assert [bool(gpu["most_rows"]) for gpu in by_name["full"]["gpus"]] == [False, False, False, False, True]
    # 13.7 GiB of weights leave 7.6 of 21.4 GiB: a row at 1,024 tokens keeps its 32 layers' inputs, 0.25 GiB.
    assert cards["LoRA"]["most_rows"] >= 8
    assert cards["QLoRA"]["most_rows"] >= 2 * cards["LoRA"]["most_rows"]
    one = next(b for b in by_name["QLoRA"]["micro_batches"] if b["rows"] == 1 and b["activation_checkpointing"])
    assert 1.0 < one["activations"] / (32 * 1024 * 4096 * 2) < 1.4
    # 896 of 1,024 positions have no label; a head on all of them makes eight times the logits.
    assert one["logits_of_a_plain_head"] / one["logits"] == pytest.approx(8, rel=0.2)
    assert one["logits_of_a_plain_head"] > 1024 * 32064 * 4
    eight = by_name["int8"]["micro_batches"][0]["activations"] - one["activations"]
    # 8-bit layers keep their inputs, checkpointing or not: q/k/v, o and gate/up of 4096, down of 11008, in bfloat16.
    assert eight == pytest.approx(32 * 1024 * (3 * 4096 + 11008) * 2, rel=0.05)
    assert by_name["QLoRA"]["disk"] == {"adapter": 4 * ADAPTED, "checkpoint": pytest.approx(12 * ADAPTED, abs=BUFFERS)}
