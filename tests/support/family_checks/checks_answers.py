"""Family checks of answers, together and alone. See `checks.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForImageTextToText

from tests.support import family_cases as cases
from tests.support import stored
from tests.support.family_cases import TinyFamily
from vlm_lit.data.answers.candidates import candidate_tokens
from vlm_lit.data.answers.samples import sample_name
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.data.rows.prompt_collate import PromptCollator
from vlm_lit.models.attention import unpackable
from vlm_lit.models.closed_set import closed_set_scores
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.generation import StopTokens, generate
from vlm_lit.models.packed_rows import read
from vlm_lit.models.sampling import SamplingSettings
from vlm_lit.models.shared_generation import generate_shared
from vlm_lit.models.vision_features import answers_from_features, with_features
from vlm_lit.schema import Conversation, EvaluationBatch
from vlm_lit.training.answering import Answering


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
        prompts = collate(asked)
        assert isinstance(prompts, EvaluationBatch)
        return {
            c.id: row
            for batch in prompts.batches
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


def sampled(tiny: TinyFamily, folder: Path) -> str | None:
    """Several answers that are drawn to each question are those that are drawn alone."""
    module, encoder, family = cases.module(folder).eval(), cases.encoder(folder), FAMILIES[tiny.model_type]
    assert module.model is not None
    answering = Answering(module.model, family, encoder, sampling=SamplingSettings(seed=5, top_p=0.95))
    talks = cases.about_one_picture(1)[:: 1 if tiny.turns else 2]
    asked = [replace(talk, id=sample_name(talk.id, number)) for talk in talks for number in range(3)]

    def answers(asked: list[Conversation], *, packing: bool) -> dict[str, str]:
        return {
            c.id: reply.text
            for batch in cases.prompts(encoder, asked, packing=packing)
            for c, reply in zip(batch.conversations, answering.replies(batch, 6), strict=True)
        }

    alone = {one.id: answers([one], packing=False)[one.id] for one in asked}
    assert len(set(alone.values())) > len(talks)
    for packing in {False, unpackable(module.base, family) is None}:
        assert answers(asked, packing=packing) == alone
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
            prompts = [PromptCollator(encoder, policy, packing=packing, store=s)(talks) for s in (store, None)]
            found, expected = (w.batches[0] for w in prompts if isinstance(w, EvaluationBatch))
            assert found.features is not None
            assert not any(name.startswith("pixel") for name in found.inputs)
            said, same = (answering.replies(batch, 6) for batch in (found, expected))
            assert [reply.text for reply in said] == [reply.text for reply in same]
            if not packing:  # a random model's answers may be empty, its logits are not
                inputs = with_features(module.base, family, found.inputs, found.features or [])
                logits = [module.base(**given).logits[:, -1] for given in (inputs, expected.inputs)]
                torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)
    return None
