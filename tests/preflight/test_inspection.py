"""Tests of the inspection: it sees idle parameters, moving frozen ones and ends of turn not taught."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from tests.support import small_data, tiny_models
from vlm_lit.commands.lightning import PreparedRun, prepared
from vlm_lit.data.datamodule import ConversationDataModule
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.errors import VlmLitError
from vlm_lit.preflight.inspection.conversations import SupervisionReader
from vlm_lit.preflight.inspection.gradient_flow import compare, digests, gradient_flow, wake_lora
from vlm_lit.preflight.inspection.lengths import Lengths
from vlm_lit.preflight.inspection.look import inspect_run
from vlm_lit.preflight.inspection.report import Inspection
from vlm_lit.schema import IGNORE_INDEX, StepBatch
from vlm_lit.training.supervised import SupervisedModule

Config = Callable[..., Path]


def opened(config: Path, *more: str) -> tuple[PreparedRun, SupervisedModule, ConversationDataModule]:
    """A run that is not run, its model not loaded."""
    run = prepared(["--config", str(config), *more])
    assert isinstance(run.model, SupervisedModule)
    assert isinstance(run.datamodule, ConversationDataModule)
    return run, run.model, run.datamodule


def looked_at(config: Path, *more: str, conversations: int = 4, lengths: int = 256) -> Inspection:
    run, module, data = opened(config, *more)
    return inspect_run(module, data, run.trainer, conversations=conversations, lengths=lengths, say=lambda _: None)


def loaded(config: Path, *more: str) -> tuple[SupervisedModule, StepBatch]:
    """A loaded module and the first step batch of its data."""
    run, module, data = opened(config, *more)
    data.trainer = module.trainer = run.trainer
    run.trainer.strategy.connect(module)
    module.configure_model()
    step_batch = next(iter(data.train_dataloader()))
    assert isinstance(step_batch, StepBatch)
    return module, step_batch


# Gradient flow -------------------------------------------------------------------------------------------------------


def test_a_right_run_moves_what_it_trains_and_nothing_else(config: Config) -> None:
    module, step_batch = loaded(config())
    flow = gradient_flow(module, step_batch)
    assert (flow.unmoved_trainable, flow.moved_frozen) == ({}, [])
    assert {p.part: (p.trainable, p.moved) for p in flow.parts} == {
        "vision_tower": (0, 0), "projector": (4, 4), "language_model": (16, 16), "head": (0, 0),
    }  # fmt: skip
    assert all((part.gradient > 0) == (part.trainable > 0) for part in flow.parts)


def test_a_frozen_parameter_that_a_step_moves_is_reported(config: Config) -> None:
    module, step_batch = loaded(config())
    before = digests(module)
    frozen = module.base.get_parameter("model.vision_tower.embeddings.class_embedding")
    frozen.requires_grad_(True)
    module.loss(step_batch.micro_batches[0]).backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD([frozen], lr=1.0).step()
    frozen.requires_grad_(False)
    flow = compare(module, before, {})
    assert flow.moved_frozen == ["model.vision_tower.embeddings.class_embedding"]
    assert {p.part: p.frozen_moved for p in flow.parts}["vision_tower"] == 1
    assert len(flow.unmoved_trainable) == 20


def test_one_changed_bit_of_a_4_bit_weight_is_reported(config: Config) -> None:
    module, _ = loaded(config())
    before = digests(module)
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    module.base.get_parameter(name).data.view(-1)[7] ^= 1
    assert compare(module, before, {}).moved_frozen == [name]


def test_weight_decay_does_not_pass_for_a_gradient(config: Config) -> None:
    # A cut graph: the projector's output no longer leads back to it, while decay alone would still move its weights.
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"weight_decay": 0.5}}
    module, step_batch = loaded(config(model={"optimizer": optimizer}))
    projector = module.base.get_submodule("model.multi_modal_projector")
    projector.register_forward_hook(lambda _module, _inputs, output: output * 0.0)
    flow = gradient_flow(module, step_batch)
    assert set(flow.unmoved_trainable.values()) == {"its gradient is zero"}
    assert len(flow.unmoved_trainable) == 4
    assert all(name.startswith("model.multi_modal_projector.") for name in flow.unmoved_trainable)


def test_a_detached_part_is_told_from_one_without_a_slope(config: Config) -> None:
    module, step_batch = loaded(config())
    projector = module.base.get_submodule("model.multi_modal_projector")
    projector.register_forward_hook(lambda _module, _inputs, output: output.detach())
    reasons = set(gradient_flow(module, step_batch).unmoved_trainable.values())
    assert [reason.split(":")[0] for reason in reasons] == ["no gradient reaches it"]


def test_a_step_that_rounds_to_nothing_is_told(config: Config) -> None:
    module, step_batch = loaded(config(model={"learning_rate": 1e-30}))
    flow = gradient_flow(module, step_batch)
    # Only biases that are still zero can take a step as small as this.
    assert len(flow.unmoved_trainable) == 18
    assert all("raise its learning rate" in reason for reason in flow.unmoved_trainable.values())


def test_without_waking_it_lora_would_look_idle(config: Config) -> None:
    module, step_batch = loaded(config())
    sleeping = first_gradients(module, step_batch)
    wake_lora(module)
    woken = first_gradients(module, step_batch)
    down = [name for name in sleeping if "lora_A" in name]
    assert len(down) == 8
    assert not any(sleeping[name] for name in down)
    assert all(woken[name] for name in down)


def first_gradients(module: SupervisedModule, step_batch: StepBatch) -> dict[str, float]:
    module.zero_grad()
    for batch in step_batch.micro_batches:
        module.loss(batch).backward()  # type: ignore[no-untyped-call]
    return {n: float(p.grad.norm()) for n, p in module.named_parameters() if p.grad is not None}


def test_a_gradient_that_is_not_finite_is_refused(config: Config) -> None:
    module, step_batch = loaded(config())
    with torch.no_grad():
        module.base.get_parameter("model.vision_tower.embeddings.class_embedding").fill_(torch.inf)
    with pytest.raises(VlmLitError, match=r"The gradient of the inspected conversations has norm nan.*train"):
        gradient_flow(module, step_batch)


# Conversations -------------------------------------------------------------------------------------------------------


def reader() -> SupervisionReader:
    tokens = tiny_models.tokenizer()
    return SupervisionReader(
        tokenizer=tokens, end_of_turn=(tokens.eos_token_id,), image_token=tokens.convert_tokens_to_ids("<image>")
    )


def row(*spoken: tuple[str, bool]) -> tuple[list[int], list[int]]:
    """Token ids of texts, and labels where they are marked."""
    tokens = tiny_models.tokenizer()
    ids, labels = list[int](), list[int]()
    for text, learned in spoken:
        own = tokens.encode(text, add_special_tokens=False)
        ids += own
        labels += own if learned else [IGNORE_INDEX] * len(own)
    return ids, labels


def test_runs_are_read_from_the_labels_alone() -> None:
    ids, labels = row(("USER: <image><image> hi ASSISTANT:", False), (" red blue</s>", True), ("USER: x", False))
    found = reader().supervision(ids, labels, turns=1)
    assert found.supervised == ("red blue",)
    assert found.end_of_turn == (True,)
    assert [s.kind for s in found.segments] == ["prompt", "image", "prompt", "supervised", "end_of_turn", "prompt"]
    assert found.count("image") == 2
    assert found.tokens == len(ids)
    assert found.supervised_share == pytest.approx(sum(label != IGNORE_INDEX for label in labels) / len(ids))
    assert "".join(found.segments[3].pieces) == found.segments[3].text == " red blue"


def test_an_end_of_turn_that_is_not_supervised_is_seen() -> None:
    ids, labels = row((" red", True), ("</s> x", False), (" blue</s>", True))
    assert reader().supervision(ids, labels, turns=2).end_of_turn == (False, True)
    assert reader().supervision(ids, labels, turns=3).end_of_turn == (False, True, False)
    assert reader().supervision(ids, labels, turns=3).supervised == ("red", "blue", "")


@pytest.mark.parametrize("text", ["héllo wörld 🙂 日本", "  two  blanks "])
def test_the_pieces_of_a_run_add_up_to_its_text(text: str) -> None:
    ids, labels = row((text, True))
    (segment,) = reader().supervision(ids, labels, turns=1).segments
    assert "".join(segment.pieces) == segment.text == text


def test_a_missing_end_of_turn_is_a_problem_with_a_name(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    # What an encoder did that left the end of turn out of the mask.
    encoded = Encoder.rows

    def without_ends(self: Encoder, *given: Any) -> Any:
        rows, *others = encoded(self, *given)
        for row in rows:
            said = zip(row.supervised, row.fields["input_ids"].tolist(), strict=True)
            row.supervised = [flag and token != self.tokenizer.eos_token_id for flag, token in said]
        return rows, *others

    monkeypatch.setattr(Encoder, "rows", without_ends)
    inspection = looked_at(config(), conversations=1)
    assert [list(c.supervision.end_of_turn) for c in inspection.conversations] == [[False, False]]
    (problem,) = inspection.problems
    assert problem.startswith("train0: the end of assistant turn 1, 2 is not supervised")


def test_conversations_that_share_a_row_are_told_apart(config: Config, tmp_path: Path) -> None:
    path = small_data.write_conversations(tmp_path, 5, prefix="one")
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([{**r, "image": rows[0]["image"]} for r in rows]))
    source = {"train": {"path": str(path)}}
    shared, alone = (looked_at(config(data={**source, "packing": packing})) for packing in (True, False))
    assert [c.supervision for c in shared.conversations] == [c.supervision for c in alone.conversations]
    assert [c.id for c in shared.conversations] == ["one0", "one1", "one2", "one3"]
    assert shared.problems == alone.problems == []


# Choice and lengths --------------------------------------------------------------------------------------------------


def lengths(tokens: Sequence[int]) -> Lengths:
    return Lengths(tokens=tuple(tokens), total=None, max_length=None, over_length="error")


def test_quantiles_are_lengths_that_occur() -> None:
    hundred = lengths([*range(100, 0, -1)])
    assert [hundred.quantile(q) for q in (0, 0.5, 0.95, 1)] == [1, 50, 95, 100]
    assert [lengths([5]).quantile(q) for q in (0, 0.5, 0.95, 1)] == [5, 5, 5, 5]


def test_the_sample_is_what_training_visits_first(config: Config) -> None:
    run, module, data = opened(config())
    data.trainer = module.trainer = run.trainer
    first = next(iter(data.train_dataloader()))
    of_first = sorted(int(n) for b in first.micro_batches for n in b.inputs["attention_mask"].sum(1))
    sampled = looked_at(config(), conversations=1, lengths=8)
    assert sorted(sampled.lengths.tokens) == of_first
    assert sampled.lengths.total == 20


def test_a_picture_is_among_those_shown_wherever_it_stands(config: Config, tmp_path: Path) -> None:
    # Otherwise the projector would seem idle.
    path = small_data.write_conversations(tmp_path, 5, prefix="mixed")
    rows = [dict(r) for r in json.loads(path.read_text())]
    for plain in rows[:4]:
        del plain["image"], plain["image_id"]
        plain["conversations"][0]["value"] = plain["conversations"][0]["value"].removeprefix("<image>\n")
    path.write_text(json.dumps(rows))
    inspection = looked_at(config(data={"train": {"path": str(path)}}), conversations=2)
    assert [c.id for c in inspection.conversations] == ["mixed0", "mixed4"]
    assert [(c.images.placeholders, c.images.features) for c in inspection.conversations] == [(0, 0), (4, 4)]
    assert inspection.problems == []


def test_a_stream_is_looked_at_from_its_beginning(config: Config, tmp_path: Path) -> None:
    small_data.write_conversations(tmp_path, 12, prefix="s")
    rows = json.loads((tmp_path / "s.json").read_text())
    plain = [
        {"question": r["conversations"][0]["value"].removeprefix("<image>\n"), "answer": "red", "image": r["image"]}
        for r in rows
    ]
    Dataset.from_list(plain).to_parquet(tmp_path / "s.parquet")
    source = {"path": str(tmp_path / "s.parquet"), "streaming": True}
    path = config(data={"train": source, "val": None, "effective_batch": 4}, trainer={"max_steps": 3})
    inspection = looked_at(path, conversations=2, lengths=6)
    assert inspection.lengths.sample == "the first 6 conversations of the stream"
    assert len(inspection.conversations) == 2
    assert inspection.steps == 3
    assert inspection.problems == []
