"""ViLT, tiny: a picture becomes up to 4 x 6 patches of 16 pixels, a question up to 40 tokens, an answer one of six."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer, PreTrainedModel, ViltConfig, ViltForMaskedLM, ViltForQuestionAnswering
from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil
from transformers.models.vilt.processing_vilt import ViltProcessor

from tests.support.tiny_families.weights import drawn
from tests.support.tiny_families.words import CORPUS

ANSWERS: Final = ("yes", "no", "red", "blue", "2", "two tools")
LONGEST_QUESTION: Final = 40
_CONTROL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@cache
def _vocabulary() -> dict[str, int]:
    pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=192, special_tokens=list(_CONTROL), show_progress=False)
    )
    # The trainer numbers pieces that are as frequent in another order each time.
    found = sorted(piece for piece in pieces.get_vocab() if piece not in _CONTROL)
    return {piece: number for number, piece in enumerate((*_CONTROL, *found))}


def vilt_processor() -> ViltProcessor:
    """ViLT's processor: BERT's tokenizer, pictures with a shortest edge of 64 pixels, their edges multiples of 16."""
    return ViltProcessor(
        image_processor=ViltImageProcessorPil(
            size={"shortest_edge": 64}, size_divisor=16, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ),
        tokenizer=BertTokenizer(vocab=dict(_vocabulary()), model_max_length=LONGEST_QUESTION),
    )


def vilt_config(answers: Sequence[str] = ANSWERS, **changed: object) -> ViltConfig:
    """ViLT's shape with four layers, every side of a linear layer a multiple of 64."""
    settings: dict[str, object] = {
        "vocab_size": -(-len(_vocabulary()) // 64) * 64,
        "max_position_embeddings": LONGEST_QUESTION,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 128,
        "image_size": 64,
        "patch_size": 16,
        "id2label": dict(enumerate(answers)),
        "label2id": {answer: number for number, answer in enumerate(answers)},
    }
    return ViltConfig(**{**settings, **changed})


def vilt(seed: int = 0) -> tuple[ViltForQuestionAnswering, ViltProcessor]:
    """A ViLT with a head over `ANSWERS`."""
    return drawn(ViltForQuestionAnswering, vilt_config(), seed), vilt_processor()


def vilt_without_head(seed: int = 0) -> tuple[PreTrainedModel, ViltProcessor]:
    """A ViLT as it is pre-trained: its head predicts words, as that of dandelin/vilt-b32-mlm does."""
    return drawn(ViltForMaskedLM, vilt_config(answers=("LABEL_0", "LABEL_1")), seed), vilt_processor()
