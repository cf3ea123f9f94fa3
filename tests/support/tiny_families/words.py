"""Tokenizer of a tiny family: byte-level, with the family's own control tokens."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "User: what colour is the lamp? Assistant: red blue green yes no",
    "system user assistant model how many tools are there? two three",
    "You are a helpful assistant. Cutting Knowledge Date: December 2023 Today Date:",
    "0123456789",
]
PIECES = 340
"""Size of the vocabulary before the control tokens: 256 bytes and some merges."""


def tokenizer(
    *,
    eos: str,
    pad: str,
    bos: str | None = None,
    bos_in_front: bool = False,
    control: Sequence[str] = (),
    named: dict[str, str] | None = None,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer.

    Args:
        eos, pad, bos: the usual control tokens; `bos` None where the family has none.
        bos_in_front: whether encoding puts `bos` first, by a post-processor, as the family's own tokenizer does.
        control: further control tokens.
        named: control tokens the family's processor asks for by name, such as `{"image_token": "<image>"}`.
    """
    names = named or {}
    special = list(dict.fromkeys([token for token in (bos, eos, pad, *control, *names.values()) if token]))
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES + len(special),
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    if bos is not None and bos_in_front:
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, bpe.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=bos, eos_token=eos, pad_token=pad, extra_special_tokens=names or None
    )


def rows(tokens: PreTrainedTokenizerFast) -> int:
    """How many rows the embedding needs: a multiple of 64 with room for every token."""
    return -(-len(tokens) // 64) * 64
