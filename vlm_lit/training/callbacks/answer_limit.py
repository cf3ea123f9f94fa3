"""Warning, before a run starts, of references that are longer than an answer may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import lightning
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.training.protocols import Encodes

_SPLITS: Final = {"fit": "val", "validate": "val", "test": "test"}
_MOST: Final = 0.95

MOST_QUESTIONS: Final = 10_000
"""So many are looked at, in even distances: reading 200,000 once more would take a quarter of a minute."""


class AnswerLimit(Callback):
    """Says once how many references of the questions asked have more tokens than `max_new_tokens`."""

    def setup(self, trainer: lightning.Trainer, pl_module: LightningModule, stage: str) -> None:
        """The data is open by now, and no weights are loaded."""
        data, limit = trainer.datamodule, getattr(pl_module, "max_new_tokens", None)  # type: ignore[attr-defined]
        split = _SPLITS.get(stage)
        if not isinstance(data, Encodes) or limit is None or split is None or split not in data.datasets:
            return
        chosen = getattr(pl_module, "answer_from", None) is not None
        unasked = not data.asks(split) or (split == "val" and not trainer.limit_val_batches)
        if chosen or unasked or not trainer.is_global_zero:
            return
        items = data.asked(split)
        every = -(-len(items) // MOST_QUESTIONS) or 1
        asked = (items[i].references for i in range(0, len(items), every))
        line = too_long(Counter(text for references in asked for text in references), data.encoder.tokenizer, limit)
        if line:
            part = f" (one question in {every} was looked at)" if every > 1 else ""
            rank_zero_info(f"Warning: data.init_args.{split}: {line}{part}")


def too_long(references: Counter[str], tokenizer: Any, limit: int) -> str:  # noqa: ANN401 - any tokenizer of a hub
    """What to say of references, each with its number, of which some have more than `limit` tokens; else nothing.

    Only those with as many bytes are tokenized: no tokenizer makes more tokens than that of a text, and one for its
    beginning.
    """
    if all(count <= limit for count in _lengths(tokenizer, _of_bytes(references, limit))):
        return ""
    texts = list(references)
    lengths = sorted(
        length
        for text, count in zip(texts, _lengths(tokenizer, texts), strict=True)
        for length in [count] * references[text]
    )
    longer = sum(length > limit for length in lengths)
    most = lengths[min(len(lengths) - 1, int(_MOST * len(lengths)))]
    return (
        f"{longer:,} of {len(lengths):,} references have more than the {limit} tokens that an answer may have "
        f"(model.init_args.max_new_tokens), so a model that learned them is cut. {_MOST:.0%} of the references have up "
        f"to {most} tokens, the longest has {lengths[-1]}; the end of an answer takes one more."
    )


def _of_bytes(references: Iterable[str], limit: int) -> list[str]:
    return [text for text in references if len(text.encode("utf-8", "surrogatepass")) >= limit]


def _lengths(tokenizer: Any, texts: Sequence[str]) -> list[int]:  # noqa: ANN401 - as above
    return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []
