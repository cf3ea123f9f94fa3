"""Family checks of what is saved, loaded again, and run from the command line. See `checks.py`."""

# ruff: noqa: ARG001 - every check is asked in the same way

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from tests.support import family_cases as cases
from tests.support import small_config, small_data
from tests.support.family_cases import TinyFamily
from vlm_lit.cli import main
from vlm_lit.models.adapter_state import load_adapter, save_adapter


def reloaded(tiny: TinyFamily, folder: Path) -> str | None:
    """The saved adapter with its projector, on a fresh 4-bit base, is the trained model to the last bit."""
    module = cases.module(folder)
    batch = cases.encode(cases.encoder(folder), [cases.conversation(1, 1)])
    expected = cases.logits(module.base, batch)
    fresh = cases.module(folder)
    with torch.no_grad():
        for parameter in fresh.trainable_parameters():
            parameter.zero_()
    assert module.model is not None
    assert fresh.model is not None
    assert not torch.allclose(cases.logits(fresh.base, batch), expected, atol=1e-3)
    with TemporaryDirectory() as run:
        save_adapter(module.model, Path(run) / "adapter", {})
        load_adapter(fresh.model, Path(run) / "adapter")
    assert torch.equal(cases.logits(fresh.base, batch), expected)
    return None


def merged(tiny: TinyFamily, folder: Path) -> str | None:
    """Merged equals unmerged, and transformers loads the merged model by itself, under the base's own names."""
    module = cases.module(folder)
    batch = cases.encode(cases.encoder(folder), [cases.conversation(1, 1)])
    assert module.model is not None
    with TemporaryDirectory() as run:
        save_adapter(module.model, Path(run) / "adapter", {})
        base = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        plain = cases.logits(base, batch)
        tuned = PeftModel.from_pretrained(base, str(Path(run) / "adapter"))
        unmerged = cases.logits(tuned, batch)
        tuned.merge_and_unload().save_pretrained(Path(run) / "merged")
        again = AutoModelForImageTextToText.from_pretrained(Path(run) / "merged", dtype=torch.float32)
        # W + BA in one matrix rounds once where two products round twice: a few float32 steps at these logits' size.
        torch.testing.assert_close(cases.logits(again, batch), unmerged, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(plain, unmerged, atol=1e-2)
    return None


def run(tiny: TinyFamily, folder: Path) -> str | None:
    """Through the command line, one config but for `model_id`: two steps of `fit`, then `test` from the adapter."""
    with TemporaryDirectory() as made:
        home, turns = Path(made), 2 if tiny.turns else 1
        small_data.write_conversations(home, 8, turns=turns, prefix="train")
        small_data.write_conversations(home, 3, turns=1, prefix="val")
        config = str(small_config.write(home, folder, home, data={"effective_batch": 4}))
        assert main(["fit", "--config", config]) == 0
        adapter = home / "run" / "adapter"
        assert json.loads((adapter / "fingerprint.json").read_text())["base"]["model_id"] == str(folder)
        assert main(["test", "--config", config, f"--model.init_args.adapter={adapter}"]) == 0
        results = json.loads((home / "run" / "results.json").read_text())
        assert results["n"] == 3
        assert len((home / "run" / "predictions.jsonl").read_text().splitlines()) == 3
    return None


def inspected(tiny: TinyFamily, folder: Path) -> str | None:
    """`inspect` finds every mask whole, every placeholder met by a feature, and every gradient where it belongs."""
    with TemporaryDirectory() as made:
        home = Path(made)
        small_data.write_conversations(home, 8, turns=2 if tiny.turns else 1, prefix="train")
        config, out = str(small_config.write(home, folder, home, data={"val": None})), home / "report.json"
        assert main(["inspect", "--config", config, "--format", "json", "--output", str(out)]) == 0
        found = json.loads(out.read_text())
        assert found["gradient_flow"] == {"unmoved_trainable": [], "moved_frozen": []}
        for conversation in found["conversations"]:
            assert conversation["end_of_turn"]
            assert all(conversation["end_of_turn"])
            assert conversation["image_features"] > 0
            # Llama-3.2-Vision has one placeholder an image, whose tiles are seen by cross-attention.
            assert conversation["image_placeholders"] == (
                1 if tiny.name == "mllama" else conversation["image_features"]
            )
    return None
