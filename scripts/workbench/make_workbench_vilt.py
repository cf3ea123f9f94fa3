"""Training of the workbench's ViLT: remakes `vlm_lit/workbench/vilt_base/` from nothing, on two CPU cores.

    python scripts/workbench/make_workbench_vilt.py --minutes 30 --seed 1 --output vilt_base

Three stages share the given time; all pictures and questions are new. *Eyes*: the lower half of the layers alone
learns, for every patch, what lies there. *Branches*: about fourteen questions share one picture, each a branch that
sees the picture and itself, so that the picture is read once for all of them. *Whole*: one question and one picture,
both in full view of each other, which is ViLT itself. The patch loss stays on to the end, with two more dense losses:
halfway up a patch shall resemble the word for what it shows, and three quarters up a word of a question shall know
what it refers to. The answers are learned with ViLT's own loss. Started again with the same output, it goes on from
its last checkpoint. The shipped weights were made while the cores were shared; `training.json` beside them says how.

Shape suffixes: B rows, T text tokens of a row, P image patches (64), D features, S questions, N answers.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from two_workers import WORKERS, agree, average_gradients, mean_or_zero, meet, start
from vilt_exam import vilt_exam
from vilt_lessons import (
    IMAGE_POSITIONS,
    ViltRows,
    answer_logits,
    embed_picture,
    embed_text,
    pixel_values,
    seen_by_all,
    seen_by_branches,
    single_questions,
    states,
)
from workbench_lessons import PATCH_FACTS, WORD_FACTS, patch_facts, small_picture

from vlm_lit.files.whole import fill_whole
from vlm_lit.workbench.vilt_model import VILT_ANSWERS, build_vilt, build_vilt_processor, build_vilt_tokenizer
from vlm_lit.workbench.world import Scene, scene

EYES_END, BRANCHES_END = 0.08, 0.7
"""Shares of the time at which the first and the second stage end."""
PICTURES: Final = {"eyes": 24, "branches": 8, "whole": 12}
"""Pictures per worker and step in each stage."""
WHOLE_QUESTIONS: Final = 3
EYES_LAYERS, WORD_LAYERS = 4, 6
"""Layers behind which patches and words are asked what they know."""
PEAK_LR: Final = 1e-3
PLATEAU: Final = 0.6
"""Share of a stage after which the learning rate falls in a straight line."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="wall time to train for")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True, help="folder of the finished model")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    start(run, arguments)


def run(rank: int, arguments: argparse.Namespace, meeting: str) -> None:
    """One worker."""
    meet(rank, meeting)
    training = ViltTraining(arguments.seed, arguments.minutes, arguments.output, rank)
    training.resume()
    training.train()
    if rank == 0:
        training.save_checkpoint()
        training.save(held_out_images=600)


class ViltTraining:
    """The ViLT being made with all it needs; `elapsed` counts seconds over all resumed sessions."""

    def __init__(self, seed: int, minutes: float, output: Path, rank: int) -> None:
        self.seed, self.seconds, self.output, self.rank = seed, minutes * 60, output, rank
        self.checkpoint = output.with_name(f"{output.name}.checkpoint.pt")
        self.tokenizer = build_vilt_tokenizer(seed)
        self.processor = build_vilt_processor(self.tokenizer)
        self.model = build_vilt(len(self.tokenizer), seed)
        # Nearly all answers are wrong for a question: the classifier starts from there.
        nn.init.constant_(self.model.classifier[-1].bias, -float(np.log(len(VILT_ANSWERS))))
        hidden = self.model.config.hidden_size
        self.patch_probes = nn.ModuleDict({fact: nn.Linear(hidden, size) for fact, size in PATCH_FACTS.items()})
        self.word_probes = nn.ModuleDict({fact: nn.Linear(hidden, size) for fact, size in WORD_FACTS.items()})
        self.probes = nn.ModuleDict({"patch": self.patch_probes, "word": self.word_probes})
        self.parameters = [*self.model.parameters(), *self.probes.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.step, self.elapsed = 0, 0.0
        self.rows = ViltRows(self.tokenizer, questions=16, tokens=152)
        self.names = self.rows.names()

    def train(self) -> None:
        """All stages, to the end of the time; a checkpoint every two minutes and a small exam every ten."""
        started, saves = time.monotonic() - self.elapsed, int(self.elapsed // 120)
        losses: dict[str, list[float]] = defaultdict(list)
        while self.elapsed < self.seconds:
            for name, value in self.update().items():
                losses[name].append(value)
            self.step, self.elapsed = self.step + 1, agree(time.monotonic() - started)
            if self.step % 100 == 0 and self.rank == 0:
                self.report(losses)
                losses.clear()
            if self.elapsed // 120 > saves and self.rank == 0:
                saves += 1
                self.save_checkpoint()
                if saves % 5 == 0:
                    self.save(held_out_images=100)

    def update(self) -> dict[str, float]:
        """One optimizer step; returns what it saw, by name."""
        stage, share = self.stage()
        for group in self.optimizer.param_groups:
            group["lr"] = PEAK_LR * share
        loss, parts = self.loss(stage)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return parts

    def stage(self) -> tuple[str, float]:
        """The stage by the clock, and the learning rate's share of its peak: a short rise, a plateau and a fall."""
        ends = {"eyes": EYES_END, "branches": BRANCHES_END, "whole": 1.0}
        start, done = 0.0, self.elapsed / self.seconds
        for name, end in ends.items():
            if done < end or name == "whole":
                break
            start = end
        progress = (done - start) / (end - start)
        # The second stage does not fall to the end: the third goes on with what it has learned.
        low = 0.4 if name == "branches" else 0.0
        peak = 0.5 if name == "whole" else 1.0
        fall = low + (1 - low) * min(1.0, (1 - progress) / (1 - PLATEAU))
        return name, peak * max(0.01, min(progress / 0.02, fall))

    def loss(self, stage: str) -> tuple[Tensor, dict[str, float]]:
        """The loss of a stage on newly drawn scenes."""
        count = PICTURES[stage]
        first = (self.step * WORKERS + self.rank) * max(PICTURES.values())
        scenes = [scene(self.seed, first + place) for place in range(count)]
        pictures = np.stack([np.asarray(small_picture(shown, place)) for place, shown in enumerate(scenes)])
        pixels = pixel_values(pictures)
        return self.eyes_loss(pixels, scenes) if stage == "eyes" else self.answers_loss(pixels, scenes, stage)

    def eyes_loss(self, pixels_BCHW: Tensor, scenes: list[Scene]) -> tuple[Tensor, dict[str, float]]:
        """What lies in each patch, by the lower half of the layers and without any question."""
        with torch.autocast("cpu", torch.bfloat16):
            found = states(self.model, embed_picture(self.model, pixels_BCHW), None, EYES_LAYERS)
        return self.patch_loss(found[-1].float(), scenes)

    def answers_loss(self, pixels_BCHW: Tensor, scenes: list[Scene], stage: str) -> tuple[Tensor, dict[str, float]]:
        """ViLT's loss on the answers, with what patches and words shall know on the way to them."""
        rows = [self.rows.row(shown, Random(f"rows {shown.name}")) for shown in scenes]
        origins, visible = list(range(len(rows))), seen_by_branches
        if stage == "whole":
            (origins, rows), visible = single_questions(rows, WHOLE_QUESTIONS), seen_by_all
        ids, segments, positions, meanings, starts, answers = map(torch.tensor, zip(*rows, strict=True))
        known = starts >= 0
        with torch.autocast("cpu", torch.bfloat16):
            picture_BPD = embed_picture(self.model, pixels_BCHW)[origins]
            words_BTD = embed_text(self.model, ids, positions)
            embedded = torch.cat([picture_BPD, words_BTD.to(picture_BPD.dtype)], dim=1)
            found = states(self.model, embedded, visible(segments), len(self.model.vilt.encoder.layer))
            logits_SN = answer_logits(self.model, found[-1][known.nonzero()[:, 0], IMAGE_POSITIONS + starts[known]])
        right_S = answers[known]
        targets_SN = F.one_hot(right_S, len(VILT_ANSWERS)).float()
        asked = F.binary_cross_entropy_with_logits(logits_SN.float(), targets_SN) * len(VILT_ANSWERS)
        patches, facts = self.patch_loss(found[EYES_LAYERS - 1].float(), [scenes[origin] for origin in origins])
        words, meant = self.word_loss(found[WORD_LAYERS - 1][:, IMAGE_POSITIONS:].float(), meanings)
        accuracy = (logits_SN.argmax(-1) == right_S).float().mean().item()
        return asked + 0.1 * patches + 0.2 * words, {"answers": asked.item(), "accuracy": accuracy, **facts, **meant}

    def patch_loss(self, states_BLD: Tensor, scenes: list[Scene]) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of each patch fact, and how unlike the patches are to the words for them, summed."""
        seen_BPD = states_BLD[:, 1:IMAGE_POSITIONS]
        facts = torch.from_numpy(np.stack([patch_facts(shown) for shown in scenes]))
        losses = {}
        for column, (fact, head) in enumerate(self.patch_probes.items()):
            # A patch to which the question does not apply is the common case: it counts for little.
            weight = torch.ones(PATCH_FACTS[fact])
            weight[0] = 1.0 if fact == "place" else 0.15
            losses[fact] = F.cross_entropy(head(seen_BPD).flatten(0, 1), facts[..., column].flatten(), weight)
        words = F.normalize(self.model.vilt.embeddings.text_embeddings.word_embeddings.weight, dim=-1)
        alike = 10 * F.normalize(seen_BPD, dim=-1) @ words.T
        named = torch.zeros(())
        for column, ids in enumerate(self.names):
            known = facts[..., column] > 0
            named = named + mean_or_zero(alike[known][:, ids], facts[..., column][known] - 1)
        losses["named"] = named
        return torch.stack(list(losses.values())).sum(), {fact: loss.item() for fact, loss in losses.items()}

    def word_loss(self, states_BTD: Tensor, meanings_BTF: Tensor) -> tuple[Tensor, dict[str, float]]:
        """What does each word of a question refer to? Asked below the top, so that the rest can answer from it."""
        losses = {}
        for column, (fact, head) in enumerate(self.word_probes.items()):
            known = meanings_BTF[..., column] >= 0
            losses[fact] = mean_or_zero(head(states_BTD[known]), meanings_BTF[..., column][known])
        return torch.stack(list(losses.values())).sum(), {f"word/{fact}": loss.item() for fact, loss in losses.items()}

    def report(self, losses: dict[str, list[float]]) -> None:
        """Print the mean of each loss since the last report."""
        means = "  ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in losses.items())
        print(f"{self.elapsed / 60:6.2f} min  step {self.step:6d}  {means}", flush=True)

    def save_checkpoint(self) -> None:
        """Write what `resume` reads, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "probes": self.probes.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        fill_whole(self.checkpoint, lambda staging: torch.save(state, staging))

    def resume(self) -> None:
        """Go on from the checkpoint where there is one."""
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.probes.load_state_dict(state["probes"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]

    def save(self, *, held_out_images: int) -> None:
        """Write the model in bfloat16, with an exam of it on scenes it has never seen."""
        finished = build_vilt(len(self.tokenizer), self.seed)
        finished.load_state_dict(self.model.state_dict())
        finished.to(torch.bfloat16).eval()
        report: dict[str, object] = {"seed": self.seed, "steps": self.step, "minutes": round(self.elapsed / 60, 1)}
        report["held_out_images"] = held_out_images
        report["held_out"] = vilt_exam(finished, self.processor, held_out_images)
        print(json.dumps(report), flush=True)
        self.processor.save_pretrained(self.output)
        finished.save_pretrained(self.output)
        (self.output / "training.json").write_text(json.dumps(report, indent=2) + "\n")
        for file in self.output.iterdir():
            file.chmod(0o644)


if __name__ == "__main__":
    main()
