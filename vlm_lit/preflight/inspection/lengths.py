"""Lengths of a run's conversations in tokens, and what becomes of those that are too long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from PIL import Image

from vlm_lit.data.images.images import load_images
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, TokenBatch

Outcome = Literal["fits", "changed", "dropped", "stops"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One conversation's length in tokens, and what the over-length policy makes of it.

    `conversation` and `images` are as they enter a batch; `reason` is empty where the conversation fits as it is.
    `supervised` are its supervised tokens before the policy.
    `stops` means that training would end at this record; `error` is what it would end with.
    """

    conversation: Conversation
    images: Sequence[Image.Image]
    tokens: int
    supervised: int = 0
    outcome: Outcome = "fits"
    reason: str = ""
    error: RecordError | None = None

    @property
    def kept(self) -> bool:
        """Whether training sees it."""
        return self.outcome in ("fits", "changed")


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Lengths in tokens before any policy, of all conversations or of a sample.

    `total` is the number of conversations in the data; None for a stream. `items` is what they are called.
    """

    tokens: tuple[int, ...]
    total: int | None
    max_length: int | None
    over_length: str
    items: str = "conversations"

    def quantile(self, share: float) -> int:
        """The smallest length that at least `share` of the conversations do not exceed."""
        return sorted(self.tokens)[max(0, math.ceil(share * len(self.tokens)) - 1)]

    @property
    def sample(self) -> str:
        """Which were measured, in words."""
        n = len(self.tokens)
        if self.total is None:
            return f"the first {n:,} {self.items} of the stream"
        if n == self.total:
            return f"all {n:,} {self.items}"
        return f"{n:,} of {self.total:,} {self.items}, those that training visits first"


def measure(collator: StepCollator, conversation: Conversation) -> Measured:
    """Measure a conversation as the collator would, and let its policy act where it is too long.

    Raises:
        RecordError: an image cannot be read, or the processor refuses the conversation.
    """
    policy, images = collator.policy, load_images(conversation)
    batch = _encoded(collator, conversation, images)
    tokens = _tokens(batch)
    found = Measured(conversation=conversation, images=images, tokens=tokens, supervised=batch.supervised_tokens)
    if policy.max_length is None or tokens <= policy.max_length:
        return found
    too_long = f"{tokens} tokens, and max_length is {policy.max_length}"
    try:
        fitted = policy.apply(conversation, images)
    except RecordError as error:
        return replace(found, outcome="stops", reason=too_long, error=error)
    if fitted is None:
        return replace(found, outcome="dropped", reason=f"{too_long} (over_length: {policy.policy})")
    after = f"{_tokens(_encoded(collator, *fitted))} tokens after {_change(images, fitted[1])}"
    reason = f"{too_long} (over_length: {policy.policy}): {after}"
    return replace(found, conversation=fitted[0], images=fitted[1], outcome="changed", reason=reason)


def _encoded(collator: StepCollator, conversation: Conversation, images: Sequence[Image.Image]) -> TokenBatch:
    return collator.encoder.encode([conversation], [images], side="right")


def _tokens(batch: TokenBatch) -> int:
    return int(batch.inputs["attention_mask"].sum())


def _change(before: Sequence[Image.Image], after: Sequence[Image.Image]) -> str:
    sizes = [
        f"{old.width} x {old.height} to {new.width} x {new.height}"
        for old, new in zip(before, after, strict=True)
        if old.size != new.size
    ]
    return f"shrinking its images ({', '.join(sizes)})" if sizes else "trimming its longest question"
