"""How does a list of conversations become what Lightning calls a batch?

In training that is a step window: everything one optimizer step sees on this rank, cut into micro-batches. In
evaluation it is one left-padded batch of prompts. A bad record travels back as a value: raised inside a worker it
would reach the user as a page of traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from vlm_lit.data.encoding import Encoder, Side
from vlm_lit.data.images import load_images
from vlm_lit.data.over_length import OverLengthPolicy
from vlm_lit.schema import Batch, Conversation, PromptBatch, RecordError, StepWindow

Decoded = tuple[Conversation, list[Image.Image]]


class WindowCollator:
    """Makes a step window of micro-batches, rows of alike length together.

    Args:
        encoder: makes padded batches.
        policy: what happens to over-length conversations.
        micro_batch: most conversations of one forward pass.
    """

    def __init__(self, encoder: Encoder, policy: OverLengthPolicy, micro_batch: int) -> None:
        self.encoder, self.policy, self.micro_batch = encoder, policy, micro_batch

    def __call__(self, conversations: Sequence[Conversation]) -> StepWindow | RecordError:
        """Collate a window; the error of a bad record is returned, not raised."""
        try:
            return self._collate(sorted(conversations, key=_size))
        except RecordError as error:
            return error

    def _collate(self, conversations: Sequence[Conversation]) -> StepWindow:
        window = StepWindow()
        for at in range(0, len(conversations), self.micro_batch):
            chunk = conversations[at : at + self.micro_batch]
            decoded = [(c, load_images(c)) for c in chunk]
            batch = encode_fitting(self.encoder, self.policy, decoded, window, side="right")
            if batch is not None:
                window.micro_batches.append(batch)
        window.supervised_tokens = sum(batch.supervised_tokens for batch in window.micro_batches)
        return window


class PromptCollator:
    """Makes a left-padded batch of prompts that end where the model is to answer."""

    def __init__(self, encoder: Encoder, policy: OverLengthPolicy) -> None:
        self.encoder, self.policy = encoder, policy

    def __call__(self, conversations: Sequence[Conversation]) -> PromptBatch | RecordError:
        """Collate prompts; the error of a bad record is returned, not raised."""
        try:
            decoded = [(c, load_images(c)) for c in conversations]
            window = StepWindow()
            batch = encode_fitting(self.encoder, self.policy, decoded, window, side="left", for_generation=True)
            if batch is None or window.dropped:
                raise _dropped_in_evaluation(conversations, window)
            # Decoded pixels stay in the worker: the conversation travels with references to its images only.
            return PromptBatch(inputs=batch.inputs, conversations=[_without_pixels(c) for c in conversations])
        except RecordError as error:
            return error


def encode_fitting(
    encoder: Encoder,
    policy: OverLengthPolicy,
    decoded: Sequence[Decoded],
    window: StepWindow,
    *,
    side: Side,
    for_generation: bool = False,
) -> Batch | None:
    """Encode conversations after the over-length policy has been applied to those that need it.

    What was dropped or changed is noted in `window`. None where nothing is left.
    """
    if not decoded:
        return None
    batch = _encode(encoder, decoded, side, for_generation)
    lengths = batch.inputs["attention_mask"].sum(1).tolist()
    if policy.max_length is None or max(lengths) <= policy.max_length:
        return batch
    fitted: list[Decoded] = []
    for (conversation, images), length in zip(decoded, lengths, strict=True):
        if length <= policy.max_length:
            fitted.append((conversation, images))
            continue
        result = policy.apply(conversation, images, for_generation=for_generation)
        (window.dropped if result is None else window.changed).append(conversation.id)
        if result is not None:
            fitted.append(result)
    return _encode(encoder, fitted, side, for_generation) if fitted else None


def _encode(encoder: Encoder, decoded: Sequence[Decoded], side: Side, for_generation: bool) -> Batch:
    conversations, images = zip(*decoded, strict=True)
    return encoder.encode(conversations, images, side=side, for_generation=for_generation)


def _size(conversation: Conversation) -> tuple[int, int]:
    return len(conversation.images), sum(len(turn.text) for turn in conversation.turns)


def _without_pixels(conversation: Conversation) -> Conversation:
    images = tuple(ref if ref.path is not None else replace(ref, pixels=None) for ref in conversation.images)
    return replace(conversation, images=images)


def _dropped_in_evaluation(conversations: Sequence[Conversation], window: StepWindow) -> RecordError:
    first = next(c for c in conversations if c.id in window.dropped)
    return RecordError(
        "the question is longer than max_length and would be dropped",
        remedy="An evaluation may not leave questions out: raise max_length, or set over_length to trim_text.",
        file=first.file,
        record=first.record,
    )
