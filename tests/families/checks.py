"""What is promised of every family: one function a promise. Each returns None, or why the family is refused it.

A refusal counts only where the product has been seen to refuse.
"""

# ruff: noqa: ARG001 - every check is asked in the same way

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import bitsandbytes as bnb
import family_cases as cases
import pytest
import small_config
import small_data
import stored
import torch
from family_cases import TinyFamily
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from vlm_lit.cli import main
from vlm_lit.data.candidates import candidate_tokens
from vlm_lit.data.collate import PromptCollator, WindowCollator
from vlm_lit.data.over_length import OverLengthPolicy
from vlm_lit.models.adapter_state import load_adapter, save_adapter
from vlm_lit.models.attention import unpackable
from vlm_lit.models.closed_set import closed_set_scores
from vlm_lit.models.families import FAMILIES, PART_NAMES, names_of, owner_of
from vlm_lit.models.generation import StopTokens, generate
from vlm_lit.models.packed_rows import read
from vlm_lit.models.parts import PartSettings
from vlm_lit.models.shared_generation import generate_shared
from vlm_lit.models.vision_features import answers_from_features, with_features
from vlm_lit.schema import ConfigError, Conversation, PromptWindow, RecordError, StepWindow, Turn
from vlm_lit.training.answering import Answering

Check = Callable[[TinyFamily, Path], str | None]


def paths(tiny: TinyFamily, folder: Path) -> str | None:
    """Every path leads somewhere, and every parameter has exactly one owner."""
    model, family = AutoModelForImageTextToText.from_pretrained(folder), FAMILIES[tiny.model_type]
    assert model.config.model_type == tiny.model_type
    modules, parameters = (
        dict(model.named_modules()), dict(model.named_parameters(remove_duplicate=False)),
    )  # fmt: skip
    for part in PART_NAMES:
        assert all(root in modules or root in parameters for root in family.roots(part)), part
        assert names_of(part, parameters, family), part
    assert [name for name in parameters if owner_of(name, family) is None] == []
    layers = model.get_submodule(family.decoder_layers)
    leaves = {name.rsplit(".", 1)[-1] for name, module in layers.named_modules() if isinstance(module, nn.Linear)}
    assert leaves == {*family.attention, *family.mlp}
    return None


def masks(tiny: TinyFamily, folder: Path) -> str | None:
    """Supervised are each turn's words and its end, for every number of images and turns, alone and batched."""
    encoder = cases.encoder(folder)
    for images, turns in cases.shapes(tiny):
        talks = [cases.conversation(images, turns, seed) for seed in range(3)]
        together = cases.encode(encoder, talks)
        for row, talk in enumerate(talks):
            alone = cases.encode(encoder, [talk])
            assert cases.runs(together, row) == cases.runs(alone, 0)
            said = cases.runs(alone, 0)
            assert all(run[-1] in encoder.end_of_turn for run in said), "no end of turn"
            words = [encoder.tokenizer.decode(run[:-1]).strip() for run in said]
            assert words == [turn.text for turn in talk.turns if turn.role == "assistant"]
    return _refused_shapes(tiny, folder)


def _refused_shapes(tiny: TinyFamily, folder: Path) -> str | None:
    """Shapes of conversation that the family does not take are refused, not encoded somehow."""
    other = [(0, 1)] if 0 not in tiny.images else []
    other += [(1, 2)] if not tiny.turns else []
    for images, turns in other:
        with pytest.raises(RecordError, match="one image or more, one question and one answer"):
            cases.encode(cases.encoder(folder), [cases.conversation(images, turns)])
    return "several turns or no image: its processor takes one question about an image" if other else None


def system(tiny: TinyFamily, folder: Path) -> str | None:
    """A system message is unsupervised and changes no answer's mask."""
    talk = cases.conversation(1, 1)
    asked = Conversation(
        id="s",
        turns=(Turn(role="system", content=("be short",)), *talk.turns),
        images=talk.images,
        file="f",
        record="0",
    )
    encoder = cases.encoder(folder)
    try:
        batch = cases.encode(encoder, [asked])
    except RecordError as error:
        return f"system message: {error.problem}"
    except ConfigError as error:
        if "does not nest" not in str(error):
            raise
        return "system message: its chat template moves it to the last user turn, so training would not see it"
    assert cases.runs(batch, 0) == cases.runs(cases.encode(encoder, [talk]), 0)
    assert "be short" in encoder.tokenizer.decode(batch.inputs["input_ids"][0])
    return None


def batches(tiny: TinyFamily, folder: Path) -> str | None:
    """Rows of any lengths and image counts cost in a window what they cost alone."""
    module, encoder = cases.module(folder), cases.encoder(folder)
    talks = [cases.conversation(i, t, seed) for seed, (i, t) in enumerate(cases.shapes(tiny))]
    window = WindowCollator(encoder, OverLengthPolicy(encoder, None, "error"), 4)(talks)
    assert isinstance(window, StepWindow)
    assert sorted(window.ids) == sorted(c.id for c in talks)
    module.eval()
    with torch.no_grad():
        together = sum(float(module.loss(batch)) for batch in window.micro_batches)
        alone = sum(float(module.loss(cases.encode(encoder, [talk]))) for talk in talks)
    # Summed float32 losses of a few nats each; padding changes the order in which sums are taken.
    assert together == pytest.approx(alone, rel=1e-5)
    return None


def quantized(tiny: TinyFamily, folder: Path) -> str | None:
    """NF4 and int8 on every linear layer of the language model, and on nothing else."""
    family = FAMILIES[tiny.model_type]
    for precision, kind in (("nf4", bnb.nn.Linear4bit), ("int8", bnb.nn.Linear8bitLt)):
        asked = PartSettings(precision=precision, training="lora")  # type: ignore[arg-type]
        base = cases.module(folder, cases.parts(language_model=asked)).base
        found = {n.removesuffix(".base_layer") for n, m in base.named_modules() if isinstance(m, kind)}
        plain = AutoModelForImageTextToText.from_pretrained(folder)
        linear = [n for n, m in plain.named_modules() if isinstance(m, nn.Linear)]
        assert found == set(names_of("language_model", linear, family))
    return None


def gradient_flow(tiny: TinyFamily, folder: Path) -> str | None:
    """LoRA and projector have gradients, and nothing else has."""
    module, family = cases.module(folder), FAMILIES[tiny.model_type]
    found = cases.gradients(module, cases.encode(cases.encoder(folder), [cases.conversation(1, 1), _two(tiny)]))
    moved = {name for name, grad in found.items() if grad is not None and bool(grad.abs().sum() > 0)}
    asked = {
        name
        for name in found
        if "lora_" in name or (owner_of(name, family) == "projector" and ".original_module." not in name)
    }
    alone = {root for root in family.projector if root in found}  # a bare parameter, which PEFT cannot save
    assert moved == asked - alone
    assert {name for name, grad in found.items() if grad is not None} == moved
    return None


def _two(tiny: TinyFamily) -> Conversation:
    return cases.conversation(1, 2 if tiny.turns else 1, 1)


def checkpointed(tiny: TinyFamily, folder: Path) -> str | None:
    """Recomputed activations give the same gradients; a frozen tower is run once and keeps no graph."""
    batch = cases.encode(cases.encoder(folder), [cases.conversation(1, 1), _two(tiny)])
    plain = cases.gradients(cases.module(folder), batch)
    module, graphs = cases.module(folder, checkpointing=True), list[bool]()
    module.train()
    tower = module.base.get_submodule(FAMILIES[tiny.model_type].vision_tower[0])
    linear = next(m for m in tower.modules() if isinstance(m, nn.Linear))
    linear.register_forward_hook(lambda _module, _inputs, output: graphs.append(output.requires_grad))
    again = cases.gradients(module, batch)
    assert plain.keys() == again.keys()
    for name, grad in plain.items():
        other = again[name]
        assert (grad is None) == (other is None)
        assert grad is None or other is None or torch.equal(grad, other)
    once = len(graphs)
    with torch.no_grad():
        module.loss(batch)
    assert len(graphs) == 2 * once, "the tower was recomputed in the backward pass"
    assert not any(graphs), "the frozen tower kept a graph"
    return None


def head(tiny: TinyFamily, folder: Path) -> str | None:
    """The loss looks at the logits that the model itself would give."""
    module = cases.module(folder).eval()
    batch = cases.encode(cases.encoder(folder), [cases.conversation(1, 1)])
    expected = cases.logits(module.base, batch)
    with torch.no_grad():
        loss = float(module.loss(batch))
    targets = batch.labels[:, 1:][batch.labels[:, 1:] != -100]
    assert loss == pytest.approx(float(nn.functional.cross_entropy(expected, targets, reduction="sum")), rel=1e-6)
    return None


def generated(tiny: TinyFamily, folder: Path) -> str | None:
    """Batched and padded on the left, questions are answered as one at a time."""
    encoder = cases.encoder(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    image_token = int(encoder.processor.image_token_id)
    stop = StopTokens(
        end_of_turn=encoder.end_of_turn, pad=int(encoder.tokenizer.pad_token_id), forbidden=(image_token,)
    )
    talks = [cases.conversation(i, t, seed) for seed, (i, t) in enumerate(cases.shapes(tiny))]
    collate = PromptCollator(encoder, OverLengthPolicy(encoder, None, "error"))

    def answers(asked: list[Conversation]) -> dict[str, list[int]]:
        window = collate(asked)
        assert isinstance(window, PromptWindow)
        return {
            c.id: row
            for batch in window.batches
            for c, row in zip(
                batch.conversations, generate(model, batch.inputs, max_new_tokens=6, stop=stop), strict=True
            )
        }

    together = answers(talks)
    assert together == {c.id: answers([c])[c.id] for c in talks}
    assert any(together.values())
    return None


def shared_generation(tiny: TinyFamily, folder: Path) -> str | None:
    """Questions that share a row are answered as one at a time, from the same logits."""
    module, encoder = cases.module(folder).eval(), cases.encoder(folder)
    family, model = FAMILIES[tiny.model_type], module.model
    assert model is not None
    if (reason := unpackable(module.base, family)) is not None:
        return f"packing: {reason}"
    stop = StopTokens(
        end_of_turn=encoder.end_of_turn,
        pad=int(encoder.tokenizer.pad_token_id),
        forbidden=(int(encoder.processor.image_token_id),),
    )
    for images in (1, 2):
        talks = cases.about_one_picture(images) + cases.about_one_picture(images, seed=3)[:2]
        talks.append(cases.conversation(images, 1, 8))
        (batch,) = cases.prompts(encoder, talks, packing=True)
        assert batch.segments is not None
        assert len(batch.inputs["input_ids"]) == 3, "three pictures, so three rows"
        together = generate_shared(
            model, batch.inputs, batch.segments, family=family, max_new_tokens=6, stop=stop
        )  # fmt: skip
        with torch.no_grad():
            first = module.logits(read(module.base, batch.inputs, batch.segments, family).hidden)
        for c, answer, logits in zip(batch.conversations, together, first, strict=True):
            ((alone,),) = [cases.prompts(encoder, [talk], packing=False) for talk in talks if talk.id == c.id]
            assert answer == generate(model, alone.inputs, max_new_tokens=6, stop=stop)[0]
            with torch.no_grad():
                expected = module.base(**alone.inputs).logits[0, -1]
            # float32 sums over hundreds of terms, taken in another order.
            torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
        assert any(together)
    return None


def closed_set(tiny: TinyFamily, folder: Path) -> str | None:
    """An answer's score in a list is its log-likelihood in a row of its own; without packing as well."""
    module, encoder, family = cases.module(folder).eval(), cases.encoder(folder), FAMILIES[tiny.model_type]
    talks = [talk for talk in cases.about_one_picture(1) if tiny.turns or len(talk.turns) == 2]
    asked, pad = candidate_tokens(encoder, cases.WORDS), int(encoder.tokenizer.pad_token_id)
    expected = {
        talk.id: torch.stack([cases.log_likelihood(module, encoder, talk, words) for words in cases.WORDS])
        for talk in talks
    }
    for packing in {unpackable(module.base, family) is None, False}:
        for batch in cases.prompts(encoder, talks, packing=packing):
            found = closed_set_scores(module.base, batch.inputs, batch.segments, asked, family=family, pad=pad)
            # Sums of a few log-probabilities of up to ten nats each, in float32.
            torch.testing.assert_close(
                found, torch.stack([expected[c.id] for c in batch.conversations]), rtol=1e-5, atol=1e-4
            )
    return None


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


def packed(tiny: TinyFamily, folder: Path) -> str | None:
    """Questions that share a row cost what they cost alone, and so do their gradients."""
    module, encoder = cases.module(folder), cases.encoder(folder)
    if (reason := unpackable(module.base, FAMILIES[tiny.model_type])) is not None:
        return f"packing: {reason}"
    policy = OverLengthPolicy(encoder, None, "error")
    for images in (1, 2):
        talks = cases.about_one_picture(images) + cases.about_one_picture(images, seed=3)[:2]
        shared, plain = (WindowCollator(encoder, policy, 8, packing=packing)(talks) for packing in (True, False))
        assert isinstance(shared, StepWindow)
        assert isinstance(plain, StepWindow)
        assert len(plain.micro_batches[0].inputs["input_ids"]) == len(talks)
        (batch,) = shared.micro_batches
        assert len(batch.inputs["input_ids"]) == 2, "two pictures, so two rows"
        assert sorted(batch.lengths) == sorted(plain.micro_batches[0].lengths)
        _same_gradients(cases.gradients(module, batch), cases.gradients(module, plain.micro_batches[0]))
    return None


def _same_gradients(found: dict[str, Tensor | None], expected: dict[str, Tensor | None]) -> None:
    for name, grad in expected.items():
        other = found[name]
        assert (grad is None) == (other is None)
        if grad is not None and other is not None:
            # float32 sums over hundreds of terms, taken in another order.
            torch.testing.assert_close(other, grad, rtol=1e-5, atol=1e-5 * float(grad.abs().max()), msg=name)


def cached(tiny: TinyFamily, folder: Path) -> str | None:
    """Vision features from the disk give the loss and gradients that the live tower gives, packed and plain."""
    module, encoder, family = cases.module(folder), cases.encoder(folder), FAMILIES[tiny.model_type]
    policy = OverLengthPolicy(encoder, None, "error")
    every = 1 if tiny.turns else 2
    for images in (1, 2):
        talks = cases.about_one_picture(images)[::every] + cases.about_one_picture(images, seed=3)[:1]
        with TemporaryDirectory() as root:
            store = stored.filled(Path(root), module.base, family, encoder, talks)
            for packing in {False, unpackable(module.base, family) is None}:
                windows = [WindowCollator(encoder, policy, 8, packing=packing, store=s)(talks) for s in (store, None)]
                found, expected = (w.micro_batches[0] for w in windows if isinstance(w, StepWindow))
                assert found.features is not None
                assert not any(name.startswith("pixel") for name in found.inputs)
                assert torch.equal(found.labels, expected.labels)
                # Of Llama-3.2-Vision's picture shapes only the tower knows what to do with.
                for field in (name for name in found.inputs if not name.startswith("aspect_ratio")):
                    assert torch.equal(found.inputs[field], expected.inputs[field]), field
                with torch.no_grad():
                    # Bit-equal in most families; where the tower sees images in one sequence its sums differ.
                    torch.testing.assert_close(module.loss(found), module.loss(expected), rtol=1e-6, atol=0)
                _same_gradients(cases.gradients(module, found), cases.gradients(module, expected))
    return None


def cached_answers(tiny: TinyFamily, folder: Path) -> str | None:
    """Prompts without pixels are answered as those with them, alone in a row and sharing one."""
    module, encoder, family = cases.module(folder).eval(), cases.encoder(folder), FAMILIES[tiny.model_type]
    if not answers_from_features(family):
        return "answers from cached features: with cross-attention a cached answer cannot go on; it sees the images"
    assert module.model is not None
    answering = Answering(module.model, family, encoder)
    talks = cases.about_one_picture(2)[:: 1 if tiny.turns else 2] + cases.about_one_picture(2, seed=3)[:1]
    policy = OverLengthPolicy(encoder, None, "error")
    with TemporaryDirectory() as root, torch.no_grad():
        store = stored.filled(Path(root), module.base, family, encoder, talks)
        for packing in {False, unpackable(module.base, family) is None}:
            windows = [PromptCollator(encoder, policy, packing=packing, store=s)(talks) for s in (store, None)]
            found, expected = (w.batches[0] for w in windows if isinstance(w, PromptWindow))
            assert found.features is not None
            assert not any(name.startswith("pixel") for name in found.inputs)
            assert answering.answers(found, 6) == answering.answers(expected, 6)
            if not packing:  # a random model's answers may be empty, its logits are not
                inputs = with_features(module.base, family, found.inputs, found.features or [])
                logits = [module.base(**given).logits[:, -1] for given in (inputs, expected.inputs)]
                torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)
    return None


CHECKS: dict[str, Check] = {
    check.__name__.replace("_", " "): check
    for check in (
        paths, masks, system, batches, quantized, gradient_flow, checkpointed, head, generated,
        shared_generation, closed_set, reloaded, merged, run,
        packed, inspected, cached, cached_answers,
    )
}  # fmt: skip
