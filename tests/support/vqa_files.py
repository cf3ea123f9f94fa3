"""Small VQA files: a result file, its annotations and its questions."""

from __future__ import annotations

import json
from pathlib import Path

VQA_ANSWERS = {
    7: (["yes"] * 10, "yes/no", "is the", "Yes"),  # unanimous: compared raw, 0
    8: (["2"] * 3 + ["two"] * 1 + ["3"] * 6, "number", "how many", "two"),  # 4 of ten after normalising: 1
    9: (["red"] + ["blue"] * 9, "other", "what color", "red"),  # 1 of ten: 0.3
}


def write_vqa(folder: Path) -> list[str]:
    """The arguments of `score` that name the three files."""
    annotations = [
        {
            "question_id": id_,
            "image_id": id_ // 2,
            "question_type": question_type,
            "answer_type": answer_type,
            "multiple_choice_answer": answers[0],
            "answers": [
                {"answer": text, "answer_confidence": "yes", "answer_id": number} for number, text in enumerate(answers)
            ],
        }
        for id_, (answers, answer_type, question_type, _) in VQA_ANSWERS.items()
    ]
    predictions = [{"question_id": id_, "answer": entry[3]} for id_, entry in reversed(VQA_ANSWERS.items())]
    questions = [{"question_id": id_, "image_id": id_ // 2, "question": "?"} for id_ in VQA_ANSWERS]
    files = {
        "predictions": predictions,
        "annotations": {"info": {}, "annotations": annotations},
        "questions": {"questions": questions},
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return [word for name in files for word in (f"--{name}", str(folder / f"{name}.json"))]
