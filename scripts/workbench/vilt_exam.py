"""Exam of the workbench's ViLT: the answers of its plain language on scenes that no training has used.

python scripts/workbench/vilt_exam.py --model vilt_base --images 600
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Final

import torch
from transformers import ViltForQuestionAnswering, ViltProcessor

from vlm_lit.workbench.dataset import EVALUATION_QUESTIONS, questions
from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.questions import QA
from vlm_lit.workbench.vilt_model import classified, vilt_base_path
from vlm_lit.workbench.world import Scene, scene

HELD_OUT_SEED: Final = 900_001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=vilt_base_path(), help="folder of the model; the shipped base")
    parser.add_argument("--images", type=int, default=600, help="how many scenes, with up to five questions each")
    arguments = parser.parse_args()
    model = ViltForQuestionAnswering.from_pretrained(arguments.model).eval()
    print(json.dumps(vilt_exam(model, ViltProcessor.from_pretrained(arguments.model), arguments.images), indent=1))


def vilt_exam(model: ViltForQuestionAnswering, processor: ViltProcessor, images: int) -> dict[str, float]:
    """Share of right answers per answer type and question type, on scenes of another seed."""
    scenes = [scene(HELD_OUT_SEED, index) for index in range(images)]
    asked = [(shown, qa) for shown in scenes for qa in classified(questions(shown, "plain", EVALUATION_QUESTIONS))]
    right: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(asked), 50):
        part = asked[start : start + 50]
        for (shown, qa), answer in zip(part, vilt_answers(model, processor, part), strict=True):
            for name in ("all", qa.answer_type, qa.question_type, f"{shown.layout}/{qa.question_type}"):
                right[name].append(answer == qa.answer)
    return {name: round(sum(values) / len(values), 4) for name, values in sorted(right.items())}


@torch.inference_mode()
def vilt_answers(model: ViltForQuestionAnswering, processor: ViltProcessor, asked: list[tuple[Scene, QA]]) -> list[str]:
    """The answers with the highest logits, through the processor as a user would get them."""
    pictures = [draw(shown) for shown, _ in asked]
    inputs = processor(images=pictures, text=[qa.question for _, qa in asked], padding=True, return_tensors="pt")
    with torch.random.fork_rng(devices=[]):
        # ViLT draws the order of its patches with the global generator.
        torch.manual_seed(0)
        logits = model(**inputs.to(model.dtype)).logits
    return [model.config.id2label[number] for number in logits.argmax(-1).tolist()]


if __name__ == "__main__":
    main()
