"""Exam on the workbench's questions: exact greedy answers on scenes that no training has used.

python scripts/workbench/workbench_exam.py --model base --images 100
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Final

import torch
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration, LlavaProcessor

from vlm_lit.data.checkpoint.processors import load_processor
from vlm_lit.workbench.base_model import base_path
from vlm_lit.workbench.dataset import Dialect, questions
from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.questions import QA
from vlm_lit.workbench.world import Scene, scene

HELD_OUT_SEED: Final = 900_001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=base_path(), help="folder of the model; the shipped base")
    parser.add_argument("--images", type=int, default=100, help="how many scenes, with five questions each")
    arguments = parser.parse_args()
    model = AutoModelForImageTextToText.from_pretrained(arguments.model).eval()
    processor = load_processor(str(arguments.model))
    for dialect in ("plain", "team"):
        print(dialect, json.dumps(exam(model, processor, dialect, arguments.images)), flush=True)


@torch.inference_mode()
def exam(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, dialect: Dialect, images: int
) -> dict[str, float]:
    """Share of exactly right greedy answers per question type, single turn, on scenes of another seed."""
    scenes = [scene(HELD_OUT_SEED, index) for index in range(images)]
    asked = [(shown, qa) for shown in scenes for qa in questions(shown, dialect, 5)]
    asked.sort(key=lambda pair: len(pair[1].answer))
    right: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(asked), 50):
        part = asked[start : start + 50]
        for (shown, qa), answer in zip(part, answers(model, processor, part), strict=True):
            for name in ("all", qa.question_type, f"{shown.layout}/{qa.question_type}"):
                right[name].append(answer == qa.answer)
    return {name: round(sum(values) / len(values), 4) for name, values in sorted(right.items())}


def answers(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, asked: list[tuple[Scene, QA]]
) -> list[str]:
    """The model's greedy answers, through the processor and `generate` as a user would get them."""
    texts = [f"USER: <image>\n{qa.question} ASSISTANT:" for _, qa in asked]
    inputs = processor(images=[draw(shown) for shown, _ in asked], text=texts, padding=True, return_tensors="pt")
    out = model.generate(**inputs.to(model.dtype), max_new_tokens=80, do_sample=False)
    words = processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in words]


if __name__ == "__main__":
    main()
