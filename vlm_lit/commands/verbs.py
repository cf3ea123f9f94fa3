"""Catalogue of the verbs: what each does, and how it is typed. No heavy import."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LIGHTNING: Final = "vlm_lit.commands.lightning_verb:run"


@dataclass(frozen=True)
class Verb:
    """One word of the command line: what it does, and the `module:function` that does it."""

    help: str
    target: str


VERBS: Final[dict[str, Verb]] = {
    "fit": Verb("fine-tune a model on image conversations", _LIGHTNING),
    "validate": Verb("answer the validation questions and judge the answers", _LIGHTNING),
    "test": Verb("answer the test questions and judge the answers", _LIGHTNING),
    "predict": Verb("answer questions without judging the answers", _LIGHTNING),
    "curate": Verb(
        "make one clean data set of pictures and questions from several sources", "vlm_lit.commands.curate:run"
    ),
    "inspect": Verb("show what would be trained and supervised, before it is", "vlm_lit.commands.inspect:run"),
    "budget": Verb("estimate what memory and disk a fit needs, before renting them", "vlm_lit.commands.budget:run"),
    "check": Verb("go through all records, and list those that cannot be used", "vlm_lit.commands.check:run"),
    "cache": Verb("compute the images' vision features ahead of a fit", "vlm_lit.commands.cache:run"),
    "verify": Verb("prove on this model and data that every shortcut changes nothing", "vlm_lit.commands.verify:run"),
    "merge": Verb("merge an adapter into its 16-bit base, as a model of its own", "vlm_lit.commands.merge:run"),
    "chat": Verb("talk with a run's model about pictures, in the terminal", "vlm_lit.commands.chat:run"),
    "pairs": Verb("make preference pairs of a model's own answers, judged by a metric", "vlm_lit.commands.pairs:run"),
    "score": Verb("judge the answers in a file by a benchmark's metric", "vlm_lit.commands.score:run"),
    "compare": Verb("compare runs item by item, with intervals and a page to read", "vlm_lit.commands.compare:run"),
    "retention": Verb(
        "say what tuning gained and lost on general questions, against the base", "vlm_lit.commands.retention:run"
    ),
    "certify": Verb(
        "write down by digests what a run was made of; check that, and do some of its steps again",
        "vlm_lit.commands.certify:run",
    ),
    "parity": Verb("show where two servers of one model answer differently", "vlm_lit.commands.parity:run"),
    "anatomy": Verb("show how large each LoRA update of a run is, and of which rank", "vlm_lit.commands.anatomy:run"),
    "study": Verb("run a grid of runs from one file, and report what it shows", "vlm_lit.commands.study:run"),
    "workbench": Verb(
        "write the built-in data set and its tiny base model to a folder", "vlm_lit.commands.workbench:run"
    ),
}

EXAMPLES: Final = {
    "fit": "fit --config configs/quickstart.yaml --run_dir runs/mine --model.lora.rank 32",
    "validate": "validate --config runs/mine/config.yaml --ckpt_path last",
    "test": "test --config runs/mine/config.yaml --ckpt_path last",
    "predict": "predict --config runs/mine/config.yaml --ckpt_path last --data.predict.path questions.json",
    "curate": "curate questions.csv more.json --images photos --output curated --columns question=frage",
    "curate template": "curate template photos --question 'Is the lamp on?'",
    "inspect": "inspect --config configs/quickstart.yaml --format html",
    "check": "check --config configs/quickstart.yaml --output report.json",
    "budget": "budget --config configs/llava15_7b_qlora.yaml --length 1024",
    "cache": "cache --config configs/quickstart.yaml --data.feature_cache features",
    "verify": "verify --config configs/quickstart.yaml --conversations 4",
    "merge": "merge runs/mine --output merged --dtype bf16",
    "chat": "chat runs/mine --image photo.jpg --compare",
    "pairs": "pairs --from runs/mine --split train --metric vqa_accuracy --output pairs.jsonl",
    "score": "score --metric anls --records runs/mine/predictions.jsonl --output scores.json",
    "compare": "compare runs/before runs/after --output comparison",
    "retention": "retention runs/mine --config configs/benchmark/pope.yaml --config workbench",
    "certify": "certify runs/mine",
    "parity": "parity runs/transformers vllm.jsonl --least 0.99",
    "anatomy": "anatomy runs/mine --output anatomy",
    "study run": "study run configs/study/lora_rank.yaml --workers 2",
    "study status": "study status configs/study/lora_rank.yaml",
    "study report": "study report configs/study/lora_rank.yaml",
    "workbench": "workbench --output workbench",
}
"""A command line of each verb, shown by its help."""


def program() -> str:
    """How this program was called: as the command `vlm_lit`, or as a module."""
    called = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else ""
    return "vlm_lit" if called in ("vlm_lit", "vlm_lit.exe") else "python -m vlm_lit"
