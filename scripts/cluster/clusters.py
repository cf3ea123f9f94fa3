"""Models and devices of the simulation: facts with their sources, and figures that are assumed."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Final

from step_time import Machine, Workload

NF4_BYTES: Final = 0.5 + 0.127 / 8
"""Bytes of a 4-bit weight with double quantization: 4 bits and 0.127 of constants (Dettmers et al. 2023, section 3)."""

GRADIENT_BYTES: Final = 4
"""Trained weights and their gradients are float32."""


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """The shape of a language model of the LLaMA family; the vision tower beside it is not counted."""

    name: str
    hidden: int
    inner: int
    layers: int
    key_values: int
    words: int

    @property
    def linear(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of a decoder layer's linear layers."""
        wide = (self.hidden, self.hidden)
        narrow = (self.hidden, self.key_values)
        return (wide, narrow, narrow, wide, *[(self.hidden, self.inner)] * 2, (self.inner, self.hidden))

    @property
    def parameters(self) -> int:
        """All of them, embeddings and head among them."""
        return self.layers * sum(a * b for a, b in self.linear) + 2 * self.words * self.hidden

    def lora_parameters(self, rank: int) -> int:
        """Those of LoRA on all linear layers."""
        return self.layers * rank * sum(a + b for a, b in self.linear)


# config.json of meta-llama/Llama-2-7b-hf and meta-llama/Llama-2-70b-hf.
LLAMA_7B: Final = LanguageModel(name="7B", hidden=4096, inner=11008, layers=32, key_values=4096, words=32000)
LLAMA_70B: Final = LanguageModel(name="70B", hidden=8192, inner=28672, layers=80, key_values=1024, words=32000)


@dataclass(frozen=True)
class Figure:
    """A figure of the simulation: its value unless it is given, its unit and meaning, and where it is from."""

    value: float
    meaning: str
    source: str


FIGURES: Final = {
    "peak": Figure(989e12, "floating-point operations a second of a device", "NVIDIA H100 SXM data sheet, BF16 dense"),
    "used": Figure(0.35, "share of peak that a step's computing reaches", "assumed"),
    "link": Figure(450e9, "bytes a second a device sends on its machine", "same sheet: NVLink 900 GB/s, both ways"),
    "network": Figure(50e9, "bytes a second a device sends to other machines", "DGX H100: a 400 Gb/s port a GPU"),
    "reached": Figure(0.8, "share of these two that collectives reach", "assumed"),
    "latency": Figure(1e-5, "seconds until a message's first byte is there", "assumed"),
    "hop": Figure(3e-5, "seconds a few bytes take from a host to the next one", "assumed: TCP within a data centre"),
    "devices": Figure(8, "devices of a machine", "DGX H100"),
    "tokens": Figure(1024, "tokens of a conversation, its image's among them", "LLaVA-1.5: 576 for the image"),
    "conversations": Figure(8, "conversations of a step on each device", "effective_batch / devices"),
    "micro_batches": Figure(2, "micro-batches they are cut into", "micro_batch: 4"),
    "rank": Figure(16, "rank of LoRA on all linear layers", "configs/model"),
    "recomputed": Figure(1, "1 where activations are recomputed, 0 where kept", "activation_checkpointing"),
    "hidden": Figure(0.0, "share of computing behind which a split base is gathered", "assumed: none, the worst"),
    "fixed": Figure(0.05, "seconds of a step besides: optimizer, Python, logging", "assumed"),
    "workers": Figure(8, "processes that make batches, a device", "assumed"),
    "worker": Figure(20, "conversations a second of one of them", "assumed; `train/data_wait_share` tells yours"),
    "cv": Figure(0.5, "standard deviation of row lengths as a share of their mean", "assumed"),
}


def add_figures(parser: argparse.ArgumentParser) -> None:
    """An option for each figure."""
    for name, figure in FIGURES.items():
        parser.add_argument(f"--{name}", type=float, default=figure.value, help=f"{figure.meaning} ({figure.source})")


def machine_of(given: argparse.Namespace) -> Machine:
    """The machines that the options describe."""
    return Machine(
        devices=int(given.devices),
        link=given.link * given.reached,
        network=given.network * given.reached,
        latency=given.latency,
        hop=given.hop,
    )


def workloads(given: argparse.Namespace) -> dict[str, Workload]:
    """What is simulated, by what it is called. Whether it fits into a device's memory is `budget`'s matter."""
    found = {}
    for model in (LLAMA_7B, LLAMA_70B):
        lora = model.lora_parameters(int(given.rank))
        found[f"{model.name}, LoRA, base on each device"] = _workload(given, model, trained=lora)
        found[f"{model.name}, LoRA, base split"] = _workload(given, model, trained=lora, split=True)
    found[f"{LLAMA_7B.name}, all weights trained"] = _workload(given, LLAMA_7B, trained=LLAMA_7B.parameters, full=True)
    return found


def _workload(
    given: argparse.Namespace, model: LanguageModel, *, trained: int, split: bool = False, full: bool = False
) -> Workload:
    # 2 operations a weight and token forward, 2 for the gradient of the input, 2 for that of a weight that is trained,
    # and 2 once more where the forward pass is recomputed. LoRA's own weights are under a hundredth.
    operations = model.parameters * (4 + 2 * full + 2 * given.recomputed)
    return Workload(
        conversations=given.conversations,
        seconds_each=given.tokens * operations / (given.peak * given.used),
        seconds_fixed=given.fixed,
        summed_bytes=trained * GRADIENT_BYTES,
        gathered_bytes=model.parameters * NF4_BYTES if split else 0.0,
        gathered_layers=model.layers if split else 0,
        micro_batches=int(given.micro_batches),
        hidden=given.hidden,
        supply=given.workers * given.worker,
        cv=given.cv,
    )
