"""Which encoder does a processor call for?"""

from __future__ import annotations

from transformers import ProcessorMixin

from vlm_lit.data.encoding import ConversationEncoder, Encoder
from vlm_lit.data.masking import Transcript
from vlm_lit.data.prefix_encoding import PrefixEncoder


def encoder_of(processor: ProcessorMixin) -> ConversationEncoder:
    """The encoder that a processor calls for."""
    if getattr(processor, "chat_template", None) is None:
        return PrefixEncoder(processor)
    return Encoder(Transcript(processor))
