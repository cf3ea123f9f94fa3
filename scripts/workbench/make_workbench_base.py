"""Training of the workbench's base model: remakes `vlm_lit/workbench/base/` from nothing, on two CPU cores.

    python scripts/workbench/make_workbench_base.py --minutes 60 --seed 1 --output base

Two stages share the given time. *Eyes*: the vision tower alone learns, for every patch, what lies there; such dense
supervision teaches it far faster than answers would. *Whole*: every parameter learns from rows that hold one image
and about ten questions, half of them as a dialogue and half as independent questions that share the image. The
patch loss stays on, and two more dense losses help: a projected patch shall resemble the words for what it shows,
and a word of a question shall know, halfway up, what it refers to. Started again with the same output, it goes on
from its last checkpoint. The shipped weights were made while this file grew; `training.json` beside them says how.

Shape suffixes: B rows, L tokens of a row, P image patches (64), D features, S labelled positions, V vocabulary.
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
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from two_workers import WORKERS, agree, average_gradients, mean_or_zero, meet, start
from workbench_exam import exam
from workbench_lessons import (
    PATCH_FACTS,
    SIDE_PATCHES,
    WORD_FACTS,
    Bytes,
    RowMaker,
    draw_all,
    normalized,
    patch_facts,
    visible,
)

from vlm_lit.files.whole import fill_whole
from vlm_lit.workbench.base_model import IMAGE_TOKENS, build_model, build_processor, build_tokenizer
from vlm_lit.workbench.world import GRID, scene

SCENES: Final = 40_000
EYES_SHARE: Final = 0.09
EYES_ROWS, WHOLE_ROWS = 32, 6
"""Images per worker and step in each stage."""
PEAK_LR: Final = 9e-4
EYES_EVERY: Final = 3
"""In the second stage the eyes learn in every third step only, which saves a fifth of the time."""
PLATEAU: Final = 0.7
"""Share of a stage after which the learning rate falls in a straight line."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="wall time to train for")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--scenes", type=int, default=SCENES, help="how many scenes to draw for training")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    pictures = arguments.output.with_name(f"{arguments.output.name}.pictures.{arguments.seed}.{arguments.scenes}.npy")
    if not pictures.exists():
        np.save(pictures, draw_all(arguments.seed, arguments.scenes))
    start(run, arguments, pictures)


def run(rank: int, arguments: argparse.Namespace, pictures: Path, meeting: str) -> None:
    """One worker."""
    meet(rank, meeting)
    training = Training(arguments.seed, arguments.minutes, arguments.output, np.load(pictures, mmap_mode="r"), rank)
    training.resume()
    training.train()
    if rank == 0:
        torch.set_num_threads(WORKERS)
        training.save_checkpoint()
        training.save(held_out_images=100)


class Training:
    """The model being made with all it needs; `elapsed` counts seconds over all resumed sessions."""

    def __init__(self, seed: int, minutes: float, output: Path, pictures: Bytes, rank: int) -> None:
        self.seed, self.seconds, self.output, self.pictures, self.rank = seed, minutes * 60, output, pictures, rank
        self.checkpoint = output.with_name(f"{output.name}.checkpoint.pt")
        self.tokenizer = build_tokenizer(seed)
        self.processor = build_processor(self.tokenizer)
        self.model = build_model(len(self.tokenizer), seed)
        hidden = self.model.config.vision_config.hidden_size
        self.heads = nn.ModuleDict({fact: nn.Linear(hidden, size) for fact, size in PATCH_FACTS.items()})
        hidden = self.model.config.text_config.hidden_size
        self.word_heads = nn.ModuleDict({fact: nn.Linear(hidden, size) for fact, size in WORD_FACTS.items()})
        self.place_heads = nn.ModuleDict({side: nn.Linear(hidden, GRID) for side in ("row", "column")})
        probes = nn.ModuleList([self.heads, self.word_heads, self.place_heads])
        self.parameters = [*self.model.parameters(), *probes.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.05, fused=True
        )
        self.step, self.elapsed = 0, 0.0
        self.scenes = [scene(seed, index) for index in range(len(pictures))]
        # Cards are easy: a third of them is enough once the eyes have learned.
        usable = [shown.layout == "bench" or index % 3 == 0 for index, shown in enumerate(self.scenes)]
        self.lessons = np.flatnonzero(usable)
        self.rows = RowMaker(self.tokenizer)

    def train(self) -> None:
        """Both stages, to the end of the time; a checkpoint every three minutes and a small exam every nine."""
        started, saves = time.monotonic() - self.elapsed, int(self.elapsed // 180)
        losses: dict[str, list[float]] = defaultdict(list)
        while self.elapsed < self.seconds:
            for name, value in self.update().items():
                losses[name].append(value)
            self.step, self.elapsed = self.step + 1, agree(time.monotonic() - started)
            if self.step % 50 == 0 and self.rank == 0:
                self.report(losses)
                losses.clear()
            if self.elapsed // 180 > saves and self.rank == 0:
                saves += 1
                self.save_checkpoint()
                if saves % 3 == 0 and self.elapsed > EYES_SHARE * self.seconds:
                    self.save(held_out_images=40)

    def update(self) -> dict[str, float]:
        """One optimizer step; returns the losses it saw, by name."""
        for group in self.optimizer.param_groups:
            group["lr"] = PEAK_LR * self.schedule()
        loss, parts = self.eyes_loss() if self.elapsed < EYES_SHARE * self.seconds else self.whole_loss()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return parts

    def report(self, losses: dict[str, list[float]]) -> None:
        """Print the mean of each loss since the last report."""
        means = "  ".join(f"{name} {sum(values) / len(values):.4f}" for name, values in losses.items())
        print(f"{self.elapsed / 60:6.2f} min  step {self.step:6d}  {means}", flush=True)

    def schedule(self) -> float:
        """The learning rate's share of its peak: in each stage a short rise, a plateau and a fall to the end."""
        border = EYES_SHARE * self.seconds
        start, end = (0.0, border) if self.elapsed < border else (border, self.seconds)
        progress = (self.elapsed - start) / (end - start)
        return min(1.0, progress / 0.03 + 0.01, max(0.01, (1 - progress) / (1 - PLATEAU)))

    def eyes_loss(self) -> tuple[Tensor, dict[str, float]]:
        """What lies in each patch?"""
        chosen = np.random.default_rng([self.seed, self.step, self.rank]).integers(len(self.scenes), size=EYES_ROWS)
        with torch.autocast("cpu", torch.bfloat16):
            seen = self.model.model.vision_tower(normalized(self.pictures[chosen])).last_hidden_state[:, 1:]
        return self.patch_loss(seen.float(), chosen)

    def patch_loss(self, seen_BPD: Tensor, chosen: npt.NDArray[np.int64]) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of each patch fact, summed, from the vision tower's features."""
        targets = torch.from_numpy(np.stack([patch_facts(self.scenes[index]) for index in chosen]))
        losses = {}
        for column, (fact, head) in enumerate(self.heads.items()):
            # A patch to which the question does not apply is the common case: it counts for little.
            weight = torch.ones(PATCH_FACTS[fact])
            weight[0] = 1.0 if fact == "place" else 0.15
            losses[fact] = F.cross_entropy(head(seen_BPD).flatten(0, 1), targets[..., column].flatten(), weight)
        total = torch.stack(list(losses.values())).sum()
        return total, {fact: loss.item() for fact, loss in losses.items()}

    def whole_loss(self) -> tuple[Tensor, dict[str, float]]:
        """Which answers belong to the questions? Loss on the answers and their ends alone."""
        chosen = np.random.default_rng([self.seed, self.step, self.rank]).choice(self.lessons, size=WHOLE_ROWS)
        rng = Random(f"rows {self.seed}/{self.step}/{self.rank}")
        rows = [self.rows.row(self.scenes[index], rng, shared=place % 2 == 0) for place, index in enumerate(chosen)]
        ids_BL, labels_BL, weights_BL, segments_BL, positions_BL, meanings_BLF = map(
            torch.tensor, zip(*rows, strict=True)
        )
        with torch.autocast("cpu", torch.bfloat16):
            with torch.set_grad_enabled(self.step % EYES_EVERY == 0):
                seen_BPD = self.model.model.vision_tower(normalized(self.pictures[chosen])).last_hidden_state[:, 1:]
            image_BPD = self.model.model.multi_modal_projector(seen_BPD)
            hidden_BLD, halfway_BLD = self.read(image_BPD, ids_BL, segments_BL, positions_BL)
            learned = labels_BL[:, 1:] >= 0
            logits_SV = self.model.lm_head(hidden_BLD[:, :-1][learned])
        losses_S = F.cross_entropy(logits_SV.float(), labels_BL[:, 1:][learned], reduction="none")
        weights_S = weights_BL[:, 1:][learned]
        answers = (losses_S * weights_S).sum() / weights_S.sum()
        patches, facts = self.patch_loss(seen_BPD.float(), chosen)
        named = self.naming_loss(image_BPD.float(), chosen)
        words, known = self.word_loss(halfway_BLD.float(), meanings_BLF)
        parts = {"answers": answers.item(), "named": named.item(), "patches": patches.item(), **facts, **known}
        return answers + 0.1 * patches + 0.1 * named + 0.2 * words, parts

    def word_loss(self, halfway_BLD: Tensor, meanings_BLF: Tensor) -> tuple[Tensor, dict[str, float]]:
        """What does each word of a question refer to? Asked halfway up, so that the upper layers can answer from it."""
        losses = {}
        for column, (fact, head) in enumerate(self.word_heads.items()):
            known = meanings_BLF[..., column] >= 0
            losses[fact] = mean_or_zero(head(halfway_BLD[known]), meanings_BLF[..., column][known])
        return torch.stack(list(losses.values())).sum(), {f"word/{fact}": loss.item() for fact, loss in losses.items()}

    def naming_loss(self, image_BPD: Tensor, chosen: npt.NDArray[np.int64]) -> Tensor:
        """Is a projected patch close to the words for what it shows, and does it tell its place?"""
        targets = torch.from_numpy(np.stack([patch_facts(self.scenes[index]) for index in chosen])) - 1
        embedding = self.model.model.language_model.embed_tokens.weight
        losses = []
        for column, ids in enumerate(self.rows.names()):
            close = F.normalize(image_BPD, dim=-1) @ F.normalize(embedding[ids], dim=-1).T
            known = targets[..., column] >= 0
            losses.append(mean_or_zero(10 * close[known], targets[..., column][known]))
        places = torch.arange(IMAGE_TOKENS).expand(len(chosen), -1)
        patches_per_place = SIDE_PATCHES // GRID
        for side, where in (("row", places // SIDE_PATCHES), ("column", places % SIDE_PATCHES)):
            said = self.place_heads[side](F.normalize(image_BPD, dim=-1) * 10)
            losses.append(F.cross_entropy(said.flatten(0, 1), where.flatten() // patches_per_place))
        return torch.stack(losses).sum()

    def read(
        self, image_BPD: Tensor, ids_BL: Tensor, segments_BL: Tensor, positions_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The language model's states [B, L, D] at its end and halfway, with images in their places, branches apart."""
        parts = self.model.model
        words_BLD = parts.language_model.embed_tokens(ids_BL)
        image_BL = ids_BL == self.model.config.image_token_id
        out = parts.language_model(
            inputs_embeds=words_BLD.masked_scatter(image_BL[..., None], image_BPD.to(words_BLD.dtype)),
            attention_mask=visible(segments_BL),
            position_ids=positions_BL,
            use_cache=False,
            output_hidden_states=True,
        )
        return out.last_hidden_state, out.hidden_states[len(out.hidden_states) // 2]

    def save_checkpoint(self) -> None:
        """Write what `resume` reads, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "word_heads": self.word_heads.state_dict(),
            "place_heads": self.place_heads.state_dict(),
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
        self.heads.load_state_dict(state["heads"])
        self.word_heads.load_state_dict(state["word_heads"])
        self.place_heads.load_state_dict(state["place_heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]

    def save(self, *, held_out_images: int) -> None:
        """Write the model in bfloat16, with an exam of it on scenes it has never seen."""
        finished = build_model(len(self.tokenizer), self.seed)
        finished.load_state_dict(self.model.state_dict())
        finished.to(torch.bfloat16).eval()
        report: dict[str, object] = {"seed": self.seed, "steps": self.step, "minutes": round(self.elapsed / 60, 1)}
        for dialect in ("plain", "team"):
            report[f"held_out_{dialect}"] = exam(finished, self.processor, dialect, held_out_images)
        print(json.dumps(report), flush=True)
        self.processor.save_pretrained(self.output)
        finished.save_pretrained(self.output)
        for file in self.output.iterdir():
            file.chmod(0o644)
        (self.output / "training.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
