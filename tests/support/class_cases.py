"""Questions about pictures for a classifier, and ViLT's processor, small and built in-process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import BertTokenizer, ViltProcessor
from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil

from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.schema import Conversation, Record

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["what", "colour", "is", "the", "lamp", "tool", "how", "many", "are", "there", "?", "left", "of", "a", "##s"]


def vilt_processor() -> ViltProcessor:
    """ViLT's processor: pictures of 64 pixels at the shorter side and 96 at most at the longer one."""
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(SPECIAL + WORDS)}, model_max_length=40)
    return ViltProcessor(ViltImageProcessorPil(size={"shortest_edge": 64}), tokenizer)


def picture(folder: Path, name: str, size: tuple[int, int] = (90, 60)) -> Path:
    """A picture file that no other name gives."""
    folder.mkdir(parents=True, exist_ok=True)
    shades = Image.linear_gradient("L").resize(size)
    red, green, blue = (shades.point(lambda v, k=k: (v * k + sum(name.encode())) % 256) for k in (1, 2, 3))
    path = folder / f"{name}.png"
    Image.merge("RGB", (red, green, blue)).save(path)
    return path


def asked(
    name: str, image: Path | Sequence[Path] | None, question: str = "what colour is the lamp?", **fields: Any
) -> Conversation:
    """A question as a record file has it; without `answers` nobody has answered it."""
    images: dict[str, Any] = {}
    if image is not None:
        images = {"image": str(image)} if isinstance(image, Path) else {"images": [str(path) for path in image]}
    record = Record(
        file="questions.json",
        index=0,
        fields={"id": name, "question": question, **images, **fields},
        image_root=Path("/"),
    )
    return to_conversation(record, requires_answer=False)
