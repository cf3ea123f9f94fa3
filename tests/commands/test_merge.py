"""Tests of `merge`: a model that other programs load, its card, and its upload without showing a token."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.utils import is_torchvision_available

from tests.support import tiny_models
from tests.support.hub import Hub, serving
from tests.support.refusals import refusal, to_stderr
from tests.support.small_disks import small_disk
from vlm_lit.cli import main
from vlm_lit.commands.merge_needs import merge_needs
from vlm_lit.commands.merge_run import merge_run
from vlm_lit.data.checkpoint.processors import processor_identity
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import WEIGHTS
from vlm_lit.models.merge.base_source import read_fingerprint
from vlm_lit.models.merge.merging import weight_names
from vlm_lit.studies.estimates.statistics import mean_interval

Capture = pytest.CaptureFixture[str]
Config = Callable[..., Path]
TOKEN = "hf_" + "s3cret" * 5


@pytest.fixture
def finished(config: Config, kept: Path) -> Path:
    """A run directory that `fit` and `test` have written, once for this file."""
    run = kept / "run"
    if not run.exists():
        path = config()
        assert main(["fit", "--config", str(path), "--run_dir", str(run)]) == 0
        assert main(["test", "--config", str(run / "config.yaml"), "--ckpt_path", "last"]) == 0
    return run


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that lives as long as this file's tests."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


def front_matter(card: str) -> dict[str, object]:
    found = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_merge_writes_a_model_that_loads_and_says_how_close_it_is(
    finished: Path, tiny_llava: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["merge", str(finished), "--output", str(tmp_path / "made" / "merged")]) == 0
    shown = capsys.readouterr().out
    number = r"[\d.e+-]+"
    for start in (
        "Base against base + adapter",
        "Base + adapter against the merged model, reloaded",
        "The same, merged",
    ):
        assert re.search(
            rf"^{re.escape(start)}.*: largest logit difference {number} at logits up to {number}; the likeliest token "
            rf"is the same at \d+ of \d+ positions \({number} %\)\.$",
            shown,
            re.MULTILINE,
        )
    assert "warning" not in shown
    folder = tmp_path / "made" / "merged"
    assert [path.name for path in folder.parent.iterdir()] == ["merged"]
    assert weight_names(folder) == weight_names(tiny_llava)
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


def test_memory_and_disk_are_stated_before_weights_are_read(
    finished: Path, tiny_llava: Path, tmp_path: Path, capsys: Capture
) -> None:
    held = sum(tensor.numel() for path in tiny_llava.glob("*.safetensors") for tensor in load_file(path).values())
    needs = merge_needs(tiny_llava, tmp_path / "merged", torch.bfloat16, checked_below=0)
    assert (needs.memory, needs.disk) == (4 * held, 2 * held)  # float32 files, written in bfloat16
    assert merge_needs(tiny_llava, tmp_path / "merged", torch.bfloat16, checked_below=held + 1).disk == 6 * held
    assert any(line.startswith("warning: that is more memory") for line in replace(needs, free=4 * held - 1).words)
    with small_disk(tmp_path / "small", "64k"):
        said = refusal(capsys, "merge", str(finished), "--output", str(tmp_path / "small" / "merged"))
        assert re.search(r"takes [\d.]+ MB on the disk of .*, which has [\d.]+ MB left", said)
        assert not (tmp_path / "small" / "merged").exists()
    assert main(["merge", str(finished), "--output", str(tmp_path / "merged")]) == 0
    stated = r"Merging takes [\d.]+ MB of memory \([\d.]+ GB free\) and [\d.]+ MB of disk"
    assert re.match(stated, capsys.readouterr().out)


def test_the_card_says_where_it_comes_from_and_how_sure_its_figures_are(
    finished: Path, tiny_llava: Path, small: Path, tmp_path: Path
) -> None:
    merge_run(finished / "adapter", tmp_path / "merged")
    card = (tmp_path / "merged" / "README.md").read_text()
    assert front_matter(card) == {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["vlm_lit", "lora", "qlora"],
    }
    rows = [json.loads(line) for line in (finished / "predictions.jsonl").read_text().splitlines()]
    found = mean_interval([row["score"] for row in rows], [row["image_id"] for row in rows])
    interval = f"{found.low:.4f} to {found.high:.4f} | 6 | 6 |"
    assert f"| `vqa_accuracy` | {found.mean:.4f} | {interval}" in card
    assert f"| `vqa_accuracy/other` | {found.mean:.4f} | {interval}" in card
    assert re.search(r"\| `exact_match` \| [\d.]+ \| - \| - \| - \|", card)
    assert "| train | `train.json` |" in card
    assert "| language_model | nf4 | lora | 0.001 |" in card
    assert "| vision_tower | fp32 | frozen | - |" in card
    assert "LoRA: rank 16, alpha 32, dropout 0, on attention." in card
    for folder in (tiny_llava, small, finished, tmp_path):
        assert str(folder) not in card
    assert str(finished.parent.parent) not in "".join(
        path.read_text() for path in (tmp_path / "merged").iterdir() if path.suffix != ".safetensors"
    )


def test_the_cards_code_runs(finished: Path, tiny_llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merge_run(finished, tmp_path / "merged")
    snippets = re.findall(r"```python\n(.*?)```", (tmp_path / "merged" / "README.md").read_text(), re.DOTALL)
    assert len(snippets) == 3
    tiny_models.picture(1).save(tmp_path / "picture.png")
    shutil.copytree(finished / "adapter", tmp_path / "adapter")
    (tmp_path / tiny_llava.name).symlink_to(tiny_llava)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}  # the second goes on from the first
    for snippet in snippets:
        exec(snippet, names)
    assert processor_identity(names["processor"]) == read_fingerprint(finished / "adapter")["processor"]


def test_a_hub_base_and_hub_data_are_named_for_the_hub(copied: Path, tiny_llava: Path, tmp_path: Path) -> None:
    path = copied / "adapter" / "fingerprint.json"
    kept = json.loads(path.read_text())
    kept["base"] |= {"model_id": "org/base", "commit": "a" * 40, "revision": "main", "weights_sha256": {}}
    path.write_text(json.dumps(kept))
    settings = yaml.safe_load((copied / "config.yaml").read_text())
    settings["data"]["init_args"]["train"] = {
        "path": "org/questions",
        "split": "train[:10%]",
        "revision": "b" * 40,
        "limit": 20,
    }
    (copied / "config.yaml").write_text(yaml.safe_dump(settings))
    found = merge_run(copied, tmp_path / "merged", base=str(tiny_llava), name="me/tuned")
    assert ["is not known" in words for words in found.warnings] == [True]
    card = (tmp_path / "merged" / "README.md").read_text()
    assert front_matter(card) == {
        "base_model": "org/base",
        "base_model_relation": "finetune",
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "datasets": ["org/questions"],
        "tags": ["vlm_lit", "lora", "qlora"],
    }
    assert f"[org/base](https://huggingface.co/org/base), revision `main`, commit `{'a' * 40}`" in card
    assert f'from_pretrained("org/base", revision="{"a" * 40}", dtype="auto")' in card
    assert 'from_pretrained("me/tuned", dtype="auto")' in card
    assert f"| train | `org/questions` | - | train[:10%] | {'b' * 40} | first 20 |" in card


def test_figures_of_another_evaluation_get_no_interval(copied: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (copied / "predictions.jsonl").read_text().splitlines()]
    (copied / "predictions.jsonl").write_text("".join(json.dumps({**row, "score": 0.77}) + "\n" for row in rows))
    merge_run(copied, tmp_path / "merged")
    card = (tmp_path / "merged" / "README.md").read_text()
    assert re.search(r"\| `vqa_accuracy` \| [\d.]+ \| - \| - \| - \|", card)


def weaken(run: Path, base: Path, factor: float) -> None:
    """Put the base's projector back into the adapter, and multiply LoRA's B by `factor`."""
    original, path = load_file(base / "model.safetensors"), run / "adapter" / WEIGHTS
    state = load_file(path)
    for name, tensor in state.items():
        if "lora_B" in name:
            tensor.mul_(factor)
        elif "lora_" not in name:
            end = name[name.index("multi_modal_projector.") :]
            tensor.copy_(next(value for key, value in original.items() if key.endswith(end)))
    save_file(state, path)


def test_an_adapter_that_changes_nothing_is_warned_of(
    copied: Path, tiny_llava: Path, tmp_path: Path, capsys: Capture
) -> None:
    weaken(copied, tiny_llava, 0.0)
    assert main(["merge", str(copied), "--output", str(tmp_path / "merged")]) == 0
    assert "warning: the adapter changes nothing that shows" in capsys.readouterr().out


def test_what_rounding_may_swallow_is_warned_of(copied: Path, tiny_llava: Path, tmp_path: Path) -> None:
    weaken(copied, tiny_llava, 0.01)  # below one step of bfloat16 at these logits
    rounded = merge_run(copied, tmp_path / "rounded")
    assert 2 * rounded.rounded.difference > rounded.learned.difference > 0
    assert ["rounding moves the logits by" in words for words in rounded.warnings] == [True]
    exact = merge_run(copied, tmp_path / "exact", dtype="fp32")
    assert exact.exact is exact.rounded
    assert exact.rounded.difference < 1e-2 * exact.learned.difference
    assert exact.warnings == ()


def test_a_merged_model_that_is_not_the_tuned_one_is_not_written(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(model: PeftModel, dtype: torch.dtype) -> PreTrainedModel:
        base: PreTrainedModel = model.unload().to(dtype)
        return base.requires_grad_(False)

    monkeypatch.setattr("vlm_lit.commands.merge_run.merge", forget)
    with pytest.raises(
        ConfigError, match="The merged model is not the tuned one: in float32, largest logit difference"
    ):
        merge_run(finished, tmp_path / "out" / "merged")
    assert list((tmp_path / "out").iterdir()) == []


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "RUN must be given."),
        (["run"], "--output must be given."),
        (["run", "--outpt", "x"], "Did you mean --output?"),
        (["run", "--output", "x", "--dtype", "nf4"], "choose from 'bf16', 'fp16', 'fp32'"),
        (["run", "--output", "x", "--private"], "--private says how to upload, and --push is not given."),
        (["run", "--output", "x"], "run holds no adapter: neither adapter_model.safetensors"),
    ],
)
def test_options_are_refused_in_one_sentence(
    arguments: list[str], says: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refusal(capsys, "merge", *arguments)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(finished: Path, capsys: Capture, tmp_path: Path) -> None:
    output = tmp_path / "output"  # the run may have been made for this test, its config beside it
    output.mkdir()
    (output / "mine").write_text("mine")
    assert "exists and is not empty" in refusal(capsys, "merge", str(finished), "--output", str(output))
    assert [path.name for path in output.iterdir()] == ["mine"]


def test_a_refused_merge_leaves_nothing(copied: Path, capsys: Capture, tmp_path: Path) -> None:
    state = load_file(copied / "adapter" / WEIGHTS)
    del state[next(iter(state))]
    save_file(state, copied / "adapter" / WEIGHTS)
    assert "1 parameters missing" in refusal(capsys, "merge", str(copied), "--output", str(tmp_path / "merged"))
    assert [path.name for path in tmp_path.iterdir() if path != copied and path.name != "config.yaml"] == []


def test_an_adapter_of_unknown_base_is_refused(copied: Path, capsys: Capture, tmp_path: Path) -> None:
    (copied / "adapter" / "fingerprint.json").write_text("{}")
    assert "does not name the adapter's base" in refusal(capsys, "merge", str(copied), "--output", str(tmp_path / "m"))
    (copied / "adapter" / "fingerprint.json").unlink()
    assert "the adapter's base is unknown" in refusal(capsys, "merge", str(copied), "--output", str(tmp_path / "m"))


def test_the_image_backend_is_the_runs_where_it_is_installed_and_spoken_of_elsewhere(
    copied: Path, tmp_path: Path
) -> None:
    path = copied / "adapter" / "fingerprint.json"
    kept = json.loads(path.read_text())
    kept["processor"] |= {"image_backend": "torchvision", "image_processor_class": "CLIPImageProcessor"}
    path.write_text(json.dumps(kept))
    spoken_of = [words for words in merge_run(copied, tmp_path / "merged").warnings if "processor's image" in words]
    named = [] if is_torchvision_available() else ["image_backend", "image_processor_class"]
    assert spoken_of == [f"the processor's {name} is not what the run had; see fingerprint.json." for name in named]
    assert 'backend="torchvision"' in (tmp_path / "merged" / "README.md").read_text()


def test_another_chat_template_is_refused(finished: Path, tiny_llava: Path, capsys: Capture, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_llava, tmp_path / "base"))
    template = base / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    error = refusal(capsys, "merge", str(finished), "--output", str(tmp_path / "m"), "--base", str(base))
    assert "is not the one the adapter was trained with" in error


@pytest.mark.parametrize("name", ["tuned", "me/tuned/v2", "me/tu ned"])
def test_a_name_that_is_none_on_the_hub_is_refused_before_merging(
    name: str, finished: Path, capsys: Capture, tmp_path: Path
) -> None:
    to_stderr()
    assert f"--push '{name}'" in refusal(
        capsys, "merge", str(finished), "--output", str(tmp_path / "merged"), "--push", name
    )
    assert not (tmp_path / "merged").exists()


@pytest.mark.slow
def test_merge_and_push_uploads_the_folder_and_shows_no_token(finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "merged"
    command = ["merge", str(finished), "--output", str(output), "--push", "me/tuned", "--private"]
    with serving(Hub(accepts=TOKEN)) as hub:
        login = {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "vlm_lit", *command],
            env={**os.environ, **login},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"Uploaded: {hub.address}/me/tuned/commit/" in done.stdout
    assert hub.repos == {"me/tuned": True}
    assert hub.files == {path.name: path.read_bytes() for path in output.iterdir()}
    assert hub.requests[0] == ("GET", "/api/whoami-v2")
    assert TOKEN not in done.stdout + done.stderr
    assert all(TOKEN.encode() not in path.read_bytes() for path in output.iterdir())
