"""Tests of `certify`: the same run again elsewhere, bit by bit, and whatever was changed found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from tests.support import class_runs, small_config
from tests.support.pairs import preference_config
from tests.support.refusals import edited, refusal, run_dir, to_stderr
from vlm_lit.cli import main

Capture = pytest.CaptureFixture[str]
Config = Callable[..., Path]

_EVERY_STEP = {
    "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
    "init_args": {"every_n_steps": 1, "keep": 2},
}


def made(folder: Path, llava: Path, small: Path, **trainer: object) -> Path:
    """A folder that holds data, base and a certified run whose last two steps are kept."""
    shutil.copytree(llava, folder / "llava")
    shutil.copytree(small, folder / "small")
    settings: dict[str, object] = {"callbacks": [_EVERY_STEP], "limit_val_batches": 0, **trainer}
    config = small_config.write(folder, folder / "llava", folder / "small", trainer=settings)
    assert main(["fit", "--config", str(config)]) == 0
    assert main(["certify", str(folder / "run")]) == 0
    return folder


@pytest.fixture(scope="module")
def certified(tiny_llava: Path, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a folder, for all tests of this file; not to be changed."""
    return made(tmp_path_factory.mktemp("certified"), tiny_llava, small)


@pytest.fixture
def moved(certified: Path, tmp_path: Path) -> Path:
    """The same in another place, to be changed."""
    return Path(shutil.copytree(certified, tmp_path / "elsewhere"))


def places(folder: Path) -> list[str]:
    """The options that say where data and base lie."""
    return [
        f"--data.train.path={folder / 'small' / 'train.json'}",
        f"--data.val.path={folder / 'small' / 'val.json'}",
        f"--data.test.path={folder / 'small' / 'val.json'}",
        f"--model.model_id={folder / 'llava'}",
    ]


def checked(folder: Path, *more: str, holds: bool) -> dict[str, Any]:
    """What a check says of a folder."""
    to_stderr()
    output = folder / "check.json"
    words = ["certify", "--check", str(folder / "run" / "certificate.json"), "--format", "json"]
    status = main([*words, "--output", str(output), *places(folder), *more])
    assert status == (0 if holds else 1)
    found: dict[str, Any] = json.loads(output.read_text())
    assert found["holds"] is holds
    return found


def whole(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The same ------------------------------------------------------------------------------------------------------------


def test_a_run_is_done_again_in_another_folder_to_the_last_bit(moved: Path) -> None:
    before = whole(moved / "run")
    found = checked(moved, holds=True)
    assert found["differences"] == []
    replay = found["replay"]
    assert (replay["start"], replay["end"], replay["compared"]) == (2, 3, "bits")
    assert replay["same_bits"]
    assert [loss["step"] for loss in replay["losses"]] == [3]
    assert replay["weights"] == {"3": []}
    assert replay["adapter"] is True
    assert whole(moved / "run") == before


def test_no_path_is_in_what_is_compared(certified: Path) -> None:
    found = json.loads((certified / "run" / "certificate.json").read_text())
    assert str(certified) in found.pop("config")
    assert str(certified) not in json.dumps(found)


def test_the_first_steps_are_done_again_from_a_certificate_alone(moved: Path) -> None:
    certificate = (moved / "run" / "certificate.json").read_bytes()
    shutil.rmtree(moved / "run")
    (moved / "run").mkdir()
    (moved / "run" / "certificate.json").write_bytes(certificate)
    found = checked(moved, "--steps", "2", holds=True)
    replay = found["replay"]
    assert (replay["start"], replay["end"]) == (0, 2)
    assert [loss["step"] for loss in replay["losses"]] == [1, 2]
    assert replay["weights"] == {"2": []}  # whose digests the certificate has
    assert replay["adapter"] is None


def test_the_text_names_every_section_and_ends_with_a_verdict(moved: Path, capsys: Capture) -> None:
    to_stderr()
    assert main(["certify", "--check", str(moved / "run"), *places(moved)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:10]] == [
        "data", "base", "processor", "settings", "course", "weights", "code", "versions", "machine",
    ]  # fmt: skip
    assert all("the same" in line for line in lines[1:10])
    assert "steps 3 to 3 from the checkpoint of step 2, compared bit by bit" in lines[10]
    assert lines[-1] == "The certified run, to the last bit of the steps done again."


@pytest.mark.slow
def test_a_preference_run_is_done_again(pairs: Path, tiny_llava: Path, tmp_path: Path, capsys: Capture) -> None:
    _done_again(preference_config(tmp_path, tiny_llava, pairs, trainer={"limit_val_batches": 0}), capsys)


def test_a_classifier_is_done_again(tmp_path: Path, capsys: Capture) -> None:
    for name in ("train", "val"):
        class_runs.write_questions(tmp_path / "data", name, 12)
    base = class_runs.checkpoint(tmp_path / "vilt")
    _done_again(class_runs.write_config(tmp_path, base, tmp_path / "data"), capsys)


def _done_again(config: Path, capsys: Capture) -> None:
    to_stderr()
    run = run_dir(config)
    for words in (["fit", "--config", str(config)], ["certify", str(run)], ["certify", "--check", str(run)]):
        assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "The certified run, to the last bit of the steps done again."
    assert any("the adapter's file: the same" in line for line in lines)


# One thing changed ---------------------------------------------------------------------------------------------------


def test_one_changed_pixel_is_found_and_its_picture_named(moved: Path) -> None:
    path = moved / "small" / "images" / "train5.png"
    with Image.open(path) as picture:
        pixels = picture.convert("RGB")
    red, *rest = pixels.getpixel((3, 4))  # type: ignore[misc]
    pixels.putpixel((3, 4), (red ^ 1, *rest))
    pixels.save(path)
    found = checked(moved, holds=False)
    assert found["differences"] == [{"section": "data", "what": "train: another picture: train5.png (record train5)"}]
    assert found["replay"] is None


def test_one_changed_word_is_found_and_its_record_named(moved: Path) -> None:
    path = moved / "small" / "train.json"
    rows = json.loads(path.read_text())
    rows[7]["conversations"][2]["value"] += " now"  # of a question, which no reference answer holds
    path.write_text(json.dumps(rows))
    found = checked(moved, holds=False)
    assert found["differences"] == [{"section": "data", "what": "train: other words in 1 record: train7"}]


@pytest.mark.parametrize("turned", [lambda rows: rows[:-1], lambda rows: [rows[1], rows[0], *rows[2:]]])
def test_records_that_lack_or_stand_elsewhere_are_found(turned: Callable[[Any], Any], moved: Path) -> None:
    path = moved / "small" / "train.json"
    path.write_text(json.dumps(turned(json.loads(path.read_text()))))
    words = [one["what"] for one in checked(moved, holds=False)["differences"] if one["section"] == "data"]
    assert words in (
        ["train: 1 record: train19 not here"],
        ["train: the records are in another order, from number 1 on (was train0, is train1)"],
    )


@pytest.mark.parametrize(
    ("option", "section", "words"),
    [
        ("--model.lora.rank=8", "settings", "model.init_args.lora.rank (was 16, is 8)"),
        ("--seed_everything=8", "settings", "seed_everything (was 7, is 8)"),
        ("--trainer.max_epochs=2", "course", "total_steps (was 3, is 6)"),
        ("--data.system=Look.", "settings", "data.init_args.system (was null, is Look.)"),
    ],
)
def test_one_changed_option_is_found_and_named(option: str, section: str, words: str, moved: Path) -> None:
    found = checked(moved, option, holds=False)
    assert {"section": section, "what": words} in found["differences"]
    assert found["replay"] is None


def test_a_changed_config_beside_the_certificate_is_found(moved: Path) -> None:
    edited(moved / "run" / "config.yaml", {"model.init_args.learning_rate": 2e-3})
    found = checked(moved, holds=False)
    assert ["settings" for _ in found["differences"]] == [one["section"] for one in found["differences"]]
    assert "model.init_args.learning_rate (was 0.001, is 0.002)" in found["differences"][0]["what"]


def test_another_base_template_and_checkpoint_are_found(moved: Path) -> None:
    weights = next((moved / "llava").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    template = moved / "llava" / "chat_template.jinja"
    template.write_text("{# a remark #}" + template.read_text())
    path = moved / "run" / "checkpoints" / "step-000002.ckpt"
    content = torch.load(path, weights_only=True)
    name = next(iter(content["state_dict"]))
    content["state_dict"][name].view(-1)[0] += 1.0
    torch.save(content, path)
    found = {one["section"]: one["what"] for one in checked(moved, holds=False)["differences"]}
    assert found.keys() == {"base", "processor", "weights"}
    assert "weights_sha256" in found["base"]
    assert "chat_template_sha256" in found["processor"]
    assert found["weights"] == f"checkpoint of step 2: 1 parameter: {name}"


# Elsewhere -----------------------------------------------------------------------------------------------------------


def _as_if(folder: Path, **changes: object) -> None:
    path = folder / "run" / "certificate.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("section", ["machine", "versions"])
def test_on_another_machine_or_version_losses_are_compared_within_a_tolerance(section: str, moved: Path) -> None:
    kept = json.loads((moved / "run" / "certificate.json").read_text())
    other = {"processor": "another"} if section == "machine" else {"torch": "2.0"}
    losses = {step: loss * 1.001 for step, loss in kept["losses"].items()}
    _as_if(moved, **{section: {**kept[section], **other}}, losses=losses)
    found = checked(moved, holds=True)
    assert [one["section"] for one in found["differences"]] == [section]
    assert found["replay"]["compared"] == "losses"
    assert found["replay"]["because"] == [f"another {section}"]
    assert found["verdict"] == "The certified run within the tolerance of 0.01; bits differ."
    checked(moved, "--tolerance", "0.0001", holds=False)


def test_a_loss_that_is_another_by_one_bit_is_found_on_the_same_machine(moved: Path) -> None:
    kept = json.loads((moved / "run" / "certificate.json").read_text())
    losses = {**kept["losses"], "3": kept["losses"]["3"] * (1 + 2**-23)}
    _as_if(moved, losses=losses)
    found = checked(moved, holds=False)
    assert found["differences"] == []
    assert found["verdict"] == "NOT the certified run: the steps done again."


def test_steps_of_which_nothing_is_known_show_nothing(moved: Path) -> None:
    kept = json.loads((moved / "run" / "certificate.json").read_text())
    _as_if(moved, machine={**kept["machine"], "processor": "another"}, losses={})
    found = checked(moved, holds=False)
    assert found["verdict"].startswith("NOT shown to be the certified run: nothing is known of the steps done again.")


# Refusals ------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_certified_or_checked_is_refused(moved: Path, tmp_path: Path, capsys: Capture) -> None:
    run, file = moved / "run", moved / "run" / "certificate.json"
    assert "give either RUN" in refusal(capsys, "certify")
    assert "is there already" in refusal(capsys, "certify", str(run))
    assert "holds no config.yaml" in refusal(capsys, "certify", str(tmp_path))
    assert "There is no certificate to check" in refusal(capsys, "certify", "--check", str(tmp_path / "none.json"))
    assert "--start 9: no checkpoint of step 9" in refusal(
        capsys, "certify", "--check", str(file), "--start", "9", *places(moved)
    )
    kept = json.loads(file.read_text())
    for changes, words in (
        ({"version": 2}, "certificate of version 2"),
        ({"losses": {"x": 1.0}}, "losses has a step"),
        ({"weights": {**kept["weights"], "steps": [-1, 3]}}, "no rising numbers from 1 up"),
        ({"weights": {**kept["weights"], "steps": [2]}}, "not one entry for each step"),
        ({"train": {**kept["train"], "pictures_of": [[99]] * 20}}, "a picture that is not listed"),
    ):
        file.write_text(json.dumps({**kept, **changes}))
        assert words in refusal(capsys, "certify", "--check", str(file), *places(moved))


def test_data_that_were_changed_since_the_run_are_not_certified(moved: Path, capsys: Capture) -> None:
    (moved / "run" / "certificate.json").unlink()
    train = moved / "small" / "train.json"
    train.write_text(train.read_text() + "\n")
    assert "train.json" in refusal(capsys, "certify", str(moved / "run"), *places(moved))
    train.write_text(train.read_text().rstrip())
    edited(moved / "run" / "config.yaml", {"model.init_args.lora.rank": 8})
    error = refusal(capsys, "certify", str(moved / "run"), *places(moved))
    assert "model.init_args.lora.rank" in error
    assert "not what its last checkpoint was made with" in error
    assert yaml.safe_load((moved / "run" / "config.yaml").read_text())["model"]["init_args"]["lora"]["rank"] == 8
