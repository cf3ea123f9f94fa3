"""Limit of a conversation's length in tokens: a number, none, or what the largest pictures need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from transformers import ProcessorMixin

from vlm_lit.data.checkpoint.image_tokens import image_tokens_of

MaxLength: TypeAlias = int | Literal["auto"] | None
"""Most tokens of a conversation: so many, what its pictures may need and `TEXT` more, or no limit."""

TEXT: Final = 2048
"""Tokens that `auto` leaves to a conversation's words; also most tokens of a row that conversations share which are no
longer than this themselves."""


@dataclass(frozen=True, kw_only=True)
class AutoLength:
    """What `auto` comes to.

    Args:
        images: most pictures of a conversation.
        each: tokens of the picture that gets most of them; None where that is not known.
    """

    images: int
    each: int | None

    @property
    def limit(self) -> int | None:
        """Most tokens of a conversation; None for no limit."""
        if self.images == 0:
            return TEXT
        return None if self.each is None else self.images * self.each + TEXT

    @property
    def words(self) -> str:
        """How it was found."""
        if self.limit is None:
            return (
                "max_length auto: no limit, since nothing says how many tokens this processor's largest picture needs. "
                "Set data.init_args.max_length to have one."
            )
        pictures = "a picture" if self.images == 1 else f"{self.images} pictures"
        needs = f"{pictures} of up to {self.each:,} tokens, and " if self.images else ""
        return f"max_length auto: {self.limit:,} tokens ({needs}{TEXT:,} for the words)."


def auto_length(processor: ProcessorMixin, images: int) -> AutoLength:
    """What `auto` comes to for conversations of up to so many pictures."""
    counted = image_tokens_of(processor) if images else None
    return AutoLength(images=images, each=None if counted is None else counted.most())
