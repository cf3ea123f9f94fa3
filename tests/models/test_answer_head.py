"""Tests of a classifier's head for a list of answers: what is kept of the checkpoint, what is drawn, what is said."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from tests.support import classifiers as cases
from tests.support.tiny_families.catalogue import CLASSIFIERS, save
from tests.support.tiny_families.vilt import ANSWERS
from vlm_lit.errors import ConfigError
from vlm_lit.models.answer_head import HeadReport, load_classifier
from vlm_lit.models.class_logits import class_logits
from vlm_lit.models.parts import PartSettings

ROWS = "classifier.3"
LOWER = ("classifier.0.weight", "classifier.0.bias", "classifier.1.weight", "classifier.1.bias")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("vilt_without_head", tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("vilt", tmp_path_factory.mktemp("tuned"))


def loaded(folder: Path, answers: tuple[str, ...], seed: int = 0) -> tuple[PreTrainedModel, HeadReport]:
    base, _, report = load_classifier(
        str(folder), answers, parts=cases.parts(), quantization=cases.QUANTIZATION, seed=seed
    )
    return base, report


def state(model: PreTrainedModel) -> dict[str, Tensor]:
    return dict(model.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    return {name for name in one if one[name].shape == other[name].shape and torch.equal(one[name], other[name])}


def test_a_head_of_the_same_answers_is_left_as_it_is(tuned: Path) -> None:
    base, report = loaded(tuned, ANSWERS)
    own = load_file(tuned / "model.safetensors")
    assert same(state(base), own) == set(own)
    assert (report.carried, report.drawn, report.lower_kept, report.unused) == (ANSWERS, (), True, ())
    assert report.words == (
        "Head for 6 answers: every row is the checkpoint's, found by its text; the layers below its rows are the "
        "checkpoint's."
    )


def test_rows_are_carried_over_by_their_text_and_the_others_drawn(tuned: Path) -> None:
    answers = ("green", "two tools", "yes", "7")
    base, report = loaded(tuned, answers)
    own, found = load_file(tuned / "model.safetensors"), state(base)
    for row, old in ((1, ANSWERS.index("two tools")), (2, ANSWERS.index("yes"))):
        assert torch.equal(found[f"{ROWS}.weight"][row], own[f"{ROWS}.weight"][old])
        assert torch.equal(found[f"{ROWS}.bias"][row], own[f"{ROWS}.bias"][old])
    assert same(found, own) == set(own) - {f"{ROWS}.weight", f"{ROWS}.bias"}
    for row in (0, 3):
        assert not any(torch.equal(found[f"{ROWS}.weight"][row], old) for old in own[f"{ROWS}.weight"])
        assert 0.01 < found[f"{ROWS}.weight"][row].std() < 0.03  # initializer_range is 0.02
        assert found[f"{ROWS}.bias"][row] == 0
    assert base.config.id2label == dict(enumerate(answers))
    assert base.config.label2id == {answer: row for row, answer in enumerate(answers)}
    assert base.config.num_labels == base.num_labels == len(answers)
    assert (report.carried, report.drawn, report.lower_kept) == (("two tools", "yes"), ("green", "7"), True)
    assert report.words == (
        "Head for 4 answers: 2 rows carried over from the checkpoint by their text (two tools, yes), 2 drawn from the "
        "seed (green, 7); the layers below its rows are the checkpoint's."
    )


def test_the_carried_rows_give_the_scores_that_they_gave(tuned: Path) -> None:
    base, _ = loaded(tuned, ("green", "two tools", "yes"))
    whole, _ = loaded(tuned, ANSWERS)
    with torch.no_grad():
        found, expected = (class_logits(model.eval(), cases.inputs(), 0) for model in (base, whole))
    torch.testing.assert_close(found[:, 1:], expected[:, [5, 0]], rtol=1e-6, atol=1e-6)


def test_answers_in_another_order_take_their_rows_along(tuned: Path) -> None:
    base, report = loaded(tuned, ANSWERS[::-1])
    assert torch.equal(state(base)[f"{ROWS}.weight"].flip(0), load_file(tuned / "model.safetensors")[f"{ROWS}.weight"])
    assert report.drawn == ()
    # Nothing is new in it, so it may as well stay frozen.
    cases.load(tuned, cases.parts(head=cases.FP32), ANSWERS[::-1])


def test_a_checkpoint_without_a_head_gets_one_from_the_seed_alone(pretrained: Path) -> None:
    torch.manual_seed(1)
    first, report = loaded(pretrained, ANSWERS)
    torch.manual_seed(2)
    again, other = loaded(pretrained, ANSWERS)[0], loaded(pretrained, ANSWERS, seed=1)[0]
    assert same(state(first), state(again)) == set(state(first))
    drawn = {f"{ROWS}.weight", "classifier.0.weight"}
    assert set(state(first)) - same(state(first), state(other)) == drawn
    own = load_file(pretrained / "model.safetensors")
    assert same(state(first), {**state(first), **own}) == set(state(first))
    assert all(0.015 < state(first)[name].std() < 0.025 for name in drawn)
    assert (report.carried, report.drawn, report.lower_kept) == ((), ANSWERS, False)
    assert report.unused == (
        "mlm_score.decoder.bias", "mlm_score.transform.LayerNorm.bias", "mlm_score.transform.LayerNorm.weight",
        "mlm_score.transform.dense.bias", "mlm_score.transform.dense.weight",
    )  # fmt: skip
    assert report.words.startswith("Head for 6 answers: made anew from the seed, since the checkpoint has no head")
    assert "Not used of the checkpoint: mlm_score.decoder.bias, " in report.words


def test_loading_moves_no_random_number_and_transformers_says_nothing(
    pretrained: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with caplog.at_level(logging.WARNING):
        loaded(pretrained, ANSWERS)
    assert torch.equal(torch.rand(3), expected)
    assert not [record for record in caplog.records if "LOAD REPORT" in record.getMessage()]
    assert "LOAD REPORT" not in capsys.readouterr().err


def test_a_head_of_other_sizes_is_made_anew(tuned: Path, tmp_path: Path) -> None:
    own = load_file(tuned / "model.safetensors")
    wide = {name: torch.ones(128, 128) if name == "classifier.0.weight" else value for name, value in own.items()}
    base, report = loaded(rewritten(tuned, tmp_path, wide), ANSWERS)
    assert not report.lower_kept
    assert state(base)["classifier.0.weight"].shape == (128, 64)
    assert same(state(base), own) & set(LOWER) == {"classifier.0.bias", "classifier.1.bias", "classifier.1.weight"}


def rewritten(folder: Path, place: Path, weights: dict[str, Tensor]) -> Path:
    """A copy of a checkpoint with other weights."""
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    return place


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_weights_that_are_missing_below_the_head_are_refused(tuned: Path, tmp_path: Path, change: str) -> None:
    own = load_file(tuned / "model.safetensors")
    name = "vilt.encoder.layer.2.output.dense.weight"
    own = {n: w for n, w in own.items() if n != name} | ({name: torch.ones(2, 2)} if change == "shape" else {})
    with pytest.raises(ConfigError, match=rf"lack 1 parameters of the model below its head.*the first is {name}"):
        loaded(rewritten(tuned, tmp_path, own), ANSWERS)


@pytest.mark.parametrize(("answers", "said"), [((), "is empty"), (("yes", "no", "yes"), "has 'yes' twice")])
def test_answers_that_no_head_can_have(tuned: Path, answers: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=f"The list of answers {said}; each answer is one row of the head"):
        loaded(tuned, answers)


@pytest.mark.parametrize("training", ["frozen", "lora"])
def test_new_rows_must_be_trained(tuned: Path, training: str) -> None:
    parts = cases.parts(head=PartSettings(precision="fp32", training=training))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"head.training is {training}, but 1 rows of the head are new: .*green"):
        cases.load(tuned, parts, (*ANSWERS, "green"))
    cases.load(tuned, parts, ANSWERS)


@pytest.mark.parametrize("folder", ["tuned", "pretrained"])
def test_a_quantized_head_cannot_change(folder: str, request: pytest.FixtureRequest) -> None:
    parts = cases.parts(head=PartSettings(precision="nf4"))
    with pytest.raises(ConfigError, match=r"head\.precision is nf4, but the checkpoint has no head for exactly these"):
        cases.load(request.getfixturevalue(folder), parts, ("yes", "no"))


@pytest.mark.parametrize("keys", [("1", "2", "3", "4", "5", "6"), ("0", "1", "2", "3", "4", "9")])
def test_rows_that_the_head_does_not_have(keys: tuple[str, ...], tuned: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tuned, tmp_path / "numbered"))
    settings = json.loads((folder / "config.json").read_text())
    settings["id2label"] = dict(zip(keys, settings["id2label"].values(), strict=True))
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=rf"id2label .* names 6 rows from {keys[0]} to {keys[-1]}; rows are counted"):
        cases.load(folder, cases.parts())


def test_dropout_is_the_originals(tuned: Path) -> None:
    base, _ = cases.load(tuned, cases.parts(), dropout=0.1)
    rates = {name: module.p for name, module in base.named_modules() if isinstance(module, torch.nn.Dropout)}
    assert {rate for name, rate in rates.items() if not name.endswith("attention.attention.dropout")} == {0.1}
    assert {rate for name, rate in rates.items() if name.endswith("attention.attention.dropout")} == {0.0}
    assert {m.p for m in cases.load(tuned, cases.parts())[0].modules() if isinstance(m, torch.nn.Dropout)} == {0.0}
    with pytest.raises(ConfigError, match=r"dropout is 1.0; it must lie in \[0, 1\)"):
        cases.load(tuned, cases.parts(), dropout=1.0)


def test_an_attention_that_it_does_not_have(tuned: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not have this attention\. Set attention to eager, or to null"):
        load_classifier(
            str(tuned), ANSWERS, parts=cases.parts(), quantization=cases.QUANTIZATION, seed=0, attention="sdpa"
        )


def test_the_tiny_ones_are_as_the_published_ones() -> None:
    """dandelin/vilt-b32-mlm names its labels LABEL_0 and LABEL_1, and its words' head is tied to the embeddings."""
    model, _ = CLASSIFIERS["vilt_without_head"].build(0)
    assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
