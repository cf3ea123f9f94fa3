"""Choice of the encoder that a processor needs, and notes on what it makes of records."""

from __future__ import annotations

from collections.abc import Iterable

from transformers import ProcessorMixin

from vlm_lit.data.rows.conversation_encoder import ConversationEncoder, TextLengths
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.masking import Transcript
from vlm_lit.data.rows.prefix_encoding import PrefixEncoder
from vlm_lit.schema import Turn


def encoder_of(processor: ProcessorMixin) -> ConversationEncoder:
    """The encoder that a processor calls for.

    Raises:
        ConfigError: the processor's chat template loses, repeats, moves or changes what is said.
    """
    if getattr(processor, "chat_template", None) is None:
        return PrefixEncoder(processor)
    transcript = Transcript(processor)
    _ = transcript.facts  # the template's probe: what cannot be trained with is refused here, not at some record
    return Encoder(transcript)


def template_notes(encoder: ConversationEncoder) -> list[str]:
    """What a checkpoint's chat template does with what records say, as far as one should know it; a sentence each."""
    return encoder.transcript.facts.notes if isinstance(encoder, Encoder) else []


def spelled_tokens(encoder: TextLengths, turns: Iterable[Turn]) -> set[str]:
    """What the checkpoint has as tokens and answers hold as words, so that its letters are learned."""
    if not isinstance(encoder, Encoder | PrefixEncoder):
        return set()
    answers = [turn.text for turn in turns if turn.role == "assistant" and turn.supervised]
    return {match.group() for answer in answers for match in encoder.exact.control.finditer(answer)}
