"""Choice of the encoder that a processor needs, and notes on what its chat template changes."""

from __future__ import annotations

from transformers import ProcessorMixin

from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.masking import Transcript
from vlm_lit.data.rows.prefix_encoding import PrefixEncoder


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
