"""The public easy-VQA data set as records: training images as conversations, the rest as questions.

Source: https://github.com/vzhou842/easy-VQA (MIT). The folder holds `train|test/images/*.png` and
`train|test/questions.json`, a list of [question, answer, image id].

Some training images are held out as `val.json` for tuning; `test.json` is the official test part, to be looked at
once. A training image with its questions is one conversation in `train.json`, as LLaVA's own training data puts VQA
sets; `train_questions.json` has the same questions one by one, for a classifier. `counterfactual_test.json` asks one
question about two test images that are as alike as the questions tell and whose answers to it differ.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections import defaultdict
from pathlib import Path

Question = tuple[str, str]
SHAPES = {"circle", "rectangle", "triangle"}


def read_questions(part: Path) -> dict[int, list[Question]]:
    """Question and answer pairs by image id."""
    path = part / "questions.json"
    if not path.is_file():
        sys.exit(f"error: {path} is not there. --source is the folder that holds train/ and test/.")
    by_image: dict[int, list[Question]] = defaultdict(list)
    for question, answer, image in json.loads(path.read_text(encoding="utf-8")):
        by_image[int(image)].append((question, answer))
    return dict(by_image)


def kind(answer: str) -> str:
    """What a question asks for, told from its answer."""
    return "yes/no" if answer in ("yes", "no") else "shape" if answer in SHAPES else "colour"


def conversations(name: str, questions: list[Question], turns: int) -> list[dict[str, object]]:
    """An image's questions as conversations of at most `turns` questions each."""
    made: list[dict[str, object]] = []
    for at in range(0, len(questions), turns):
        talk = []
        for k, (question, answer) in enumerate(questions[at : at + turns]):
            start = "<image>\n" if k == 0 else ""
            talk += [{"from": "human", "value": start + question}, {"from": "gpt", "value": answer}]
        made.append({"id": f"{name}-{at}", "image": f"images/{name}.png", "image_id": name, "conversations": talk})
    return made


def records(name: str, questions: list[Question]) -> list[dict[str, object]]:
    """One VQA record a question."""
    return [
        {
            "id": f"{name}-{k}",
            "image": f"images/{name}.png",
            "image_id": name,
            "question": question,
            "answers": [answer],
            "answer_type": "yes/no" if kind(answer) == "yes/no" else "other",
            "question_type": kind(answer),
        }
        for k, (question, answer) in enumerate(questions)
    ]


def counterfactual_records(by_image: dict[int, list[Question]], seed: int) -> list[dict[str, object]]:
    """Pairs of records with one question and two answers, each image in one pair at most; see `compare`."""
    draw, left, made = random.Random(seed), sorted(by_image), list[dict[str, object]]()
    while left:
        image = left.pop(0)
        known = dict(by_image[image])
        told_apart = {other: [q for q, answer in by_image[other] if known.get(q, answer) != answer] for other in left}
        told_apart = {other: questions for other, questions in told_apart.items() if questions}
        if not told_apart:
            continue
        other = min(told_apart, key=lambda one: (len(told_apart[one]), one))
        left.remove(other)
        question = draw.choice(told_apart[other])
        for side, one in (("first", image), ("second", other)):
            (record,) = records(f"test{one}", [(question, dict(by_image[one])[question])])
            made.append({**record, "id": f"test{image}-test{other}/{side}"})
    return made


def prepare(source: Path, output: Path, held_out: int, turns: int, seed: int) -> None:
    """Write images/ and the files that the module describes into `output`."""
    train, test = read_questions(source / "train"), read_questions(source / "test")
    ids = sorted(train)
    held = set(random.Random(seed).sample(ids, held_out))
    (output / "images").mkdir(parents=True)
    for part, images in (("train", train), ("test", test)):
        for image in images:
            shutil.copyfile(source / part / "images" / f"{image}.png", output / "images" / f"{part}{image}.png")
    rows = {
        "train": [r for i in ids if i not in held for r in conversations(f"train{i}", train[i], turns)],
        "train_questions": [r for i in ids if i not in held for r in records(f"train{i}", train[i])],
        "val": [r for i in sorted(held) for r in records(f"train{i}", train[i])],
        "test": [r for i in sorted(test) for r in records(f"test{i}", test[i])],
        "counterfactual_test": counterfactual_records(test, seed),
    }
    for split, made in rows.items():
        (output / f"{split}.json").write_text(json.dumps(made), encoding="utf-8")
        print(f"{split}: {len(made)} records")


def main() -> None:
    """Parse the options and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="the data set's folder, with train/ and test/")
    parser.add_argument("--output", type=Path, default=Path("easy_vqa"))
    parser.add_argument("--held_out", type=int, default=200, help="training images kept for tuning")
    parser.add_argument("--turns", type=int, default=100, help="most questions of one training conversation")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.output.exists():
        sys.exit(f"error: {options.output} exists. Name another --output, or remove it first.")
    prepare(options.source, options.output, options.held_out, options.turns, options.seed)


if __name__ == "__main__":
    main()
