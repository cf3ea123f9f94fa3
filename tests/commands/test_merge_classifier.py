"""Merging of a classifier's run: the answers are in the merged model, which transformers loads alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import ViltForQuestionAnswering, ViltProcessor

from tests.support.class_runs import checkpoint, write_config, write_questions
from tests.support.runs import fit, predictions, run_dir, verb
from vlm_lit.cli import main
from vlm_lit.data.images.images import load_images
from vlm_lit.schema import Conversation, ImageRef
from vlm_lit.training.classifier import ClassifierModule

FROZEN = {"precision": "fp32", "training": "frozen"}


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora on nf4"])
def test_a_merged_classifier_answers_as_the_run_did(tmp_path: Path, lora: bool) -> None:
    folder = checkpoint(tmp_path / "vilt", head=False)
    write_questions(tmp_path, "train", 24)
    write_questions(tmp_path, "val", 9, outside=2)
    parts = {"embeddings": FROZEN, "language_model": {"precision": "nf4", "training": "lora"}} if lora else {}
    path = write_config(tmp_path, folder, tmp_path, model={"parts": parts, "learning_rate": 1e-2})
    cli = fit(path)
    run, merged = run_dir(path), tmp_path / "merged"
    assert verb("test", path, "--ckpt_path=last") == 0
    assert main(["merge", str(run), "--output", str(merged), "--dtype", "fp32"]) == 0

    model = ViltForQuestionAnswering.from_pretrained(merged).eval()
    answers = json.loads((run / "answers.json").read_text())["answers"]
    assert list(model.config.id2label.values()) == answers
    processor = ViltProcessor.from_pretrained(merged)
    card = (merged / "README.md").read_text()
    assert "AutoModelForVisualQuestionAnswering" in card
    assert "visual-question-answering" in card
    assert isinstance(cli.model, ClassifierModule)
    asked = cli.datamodule.datasets["val"]
    for i, line in enumerate(predictions(run)):
        picture = load_images(Conversation(id="", turns=(), images=(ImageRef(path=asked[i].images[0].path),)))[0]
        with torch.no_grad():
            logits = model(**processor(text=[line["question"]], images=[picture], return_tensors="pt")).logits
        if not lora:  # merged into a 16-bit base, not into the 4-bit one
            assert answers[int(logits.argmax())] == line["prediction"]
            assert float(logits.sigmoid().max()) == pytest.approx(line["confidence"], abs=1e-4)
