"""Benchmark of generation: the questions of an image answered together, or each in a row of its own.

    python scripts/benchmark/generation.py [--images 4] [--questions 5] [--tokens 8] [--repeats 5] [--kv_heads 8]

With `--kv_heads 1` eight heads of queries share one of keys (in Qwen2.5-VL-7B it is seven). Both ways take turns on one
randomly initialised LLaVA of 64 million parameters (CLIP tower, 256 image tokens; NF4 language model, float32 compute).
Printed are each way's answers a second (median), the ratio of their seconds turn by
turn (median; on a machine that others use, the processor's seconds are the ones to look at), and whether all answers
are the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import bitsandbytes as bnb
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from vlm_lit.models.families import FAMILIES
from vlm_lit.models.generation import StopTokens, generate
from vlm_lit.models.shared_generation import generate_shared

IMAGE_TOKENS: Final = 256
IMAGE, PAD, END, VOCABULARY = 31999, 0, 2, 32000
BEFORE: Final = 6  # tokens before the image, as in "<s> USER: "


def model(kv_heads: int = 8) -> LlavaForConditionalGeneration:
    """The model, its language model in NF4, with so many heads of keys for its eight of queries."""
    torch.manual_seed(0)
    text = LlamaConfig(
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=kv_heads,
        vocab_size=VOCABULARY,
        pad_token_id=PAD,
        eos_token_id=END,
    )
    vision = CLIPVisionConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=4,
        image_size=224,
        patch_size=14,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE,
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-2,
    )
    made = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.05)  # at the usual spread all answers would be alike
    _quantize(made.model.language_model)
    return made


def _quantize(root: nn.Module) -> None:
    for name, layer in list(root.named_modules()):
        if isinstance(layer, nn.Linear):
            small = bnb.nn.Linear4bit(
                layer.in_features, layer.out_features, bias=False, quant_type="nf4", compute_dtype=torch.float32
            )
            small.weight = bnb.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
            small.support_avx512bf16_for_cpu = False
            parent, leaf = name.rsplit(".", 1)
            setattr(root.get_submodule(parent), leaf, small.to("cpu"))


def questions(images: int, each: int) -> tuple[Tensor, list[list[list[int]]]]:
    """Pixels [images, 3, 224, 224], and for every image the token ids of its questions."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(images, 3, 224, 224, generator=generator)

    def words() -> list[int]:
        n = int(torch.randint(8, 20, (1,), generator=generator))
        return torch.randint(3, IMAGE, (n,), generator=generator).tolist()

    return pixels, [[words() for _ in range(each)] for _ in range(images)]


def plain(pixels: Tensor, asked: list[list[list[int]]]) -> dict[str, Tensor]:
    """A left-padded row a question."""
    rows = [[*range(3, 3 + BEFORE), *[IMAGE] * IMAGE_TOKENS, *words] for group in asked for words in group]
    longest = max(map(len, rows))
    ids = torch.tensor([[PAD] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    each = torch.repeat_interleave(torch.tensor([len(group) for group in asked]))
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels[each]}


def packed(pixels: Tensor, asked: list[list[list[int]]]) -> tuple[dict[str, Tensor], Tensor]:
    """A right-padded row an image, and the segments of its tokens."""
    prefix = [*range(3, 3 + BEFORE), *[IMAGE] * IMAGE_TOKENS]
    rows = [[*prefix, *(token for words in group for token in words)] for group in asked]
    owners = [[0] * len(prefix) + [k for k, words in enumerate(group, 1) for _ in words] for group in asked]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    segments = torch.tensor([row + [0] * (longest - len(row)) for row in owners])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels}, segments


@dataclass(frozen=True)
class Turn:
    """What one way took: seconds on the clock and on the processors. And what it answered."""

    clock: float
    processor: float
    answers: list[list[int]]


def timed(way: Callable[[], list[list[int]]]) -> Turn:
    """One way's turn."""
    begin, used = time.perf_counter(), time.process_time()
    answers = way()
    return Turn(time.perf_counter() - begin, time.process_time() - used, answers)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"images": 4, "questions": 5, "tokens": 8, "repeats": 5, "threads": 2, "kv_heads": 8}
    for name, default in defaults.items():
        options.add_argument(f"--{name}", type=int, default=default)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    made, stop = model(given.kv_heads), StopTokens(end_of_turn=(END,), pad=PAD, forbidden=(IMAGE,))
    pixels, asked = questions(given.images, given.questions)
    single, (together, segments) = plain(pixels, asked), packed(pixels, asked)
    longest = {"max_new_tokens": given.tokens, "stop": stop}
    ways: dict[str, Callable[[], list[list[int]]]] = {
        "generate": lambda: generate(made, single, **longest),
        "shared": lambda: generate_shared(made, together, segments, family=FAMILIES["llava"], **longest),
    }
    found = {name: [timed(way)][:0] for name, way in ways.items()}  # the first of each warms up
    for _ in range(given.repeats):
        for name, way in ways.items():
            found[name].append(timed(way))
    for name, turns in found.items():
        a_second = given.images * given.questions / statistics.median(turn.clock for turn in turns)
        print(f"{name:>10}: {a_second:6.2f} answers/s  ({', '.join(f'{turn.clock:.2f}' for turn in turns)} s)")
    pairs = list(zip(found["generate"], found["shared"], strict=True))
    _print_ratios("clock", [slow.clock / fast.clock for slow, fast in pairs])
    _print_ratios("processor", [slow.processor / fast.processor for slow, fast in pairs])
    print(f" identical: {all(slow.answers == fast.answers for slow, fast in pairs)}")
    print(f"parameters: {sum(_size(p) for p in made.parameters()) / 1e6:.1f} million")


def _print_ratios(what: str, ratios: list[float]) -> None:
    print(f"{what:>10}: {statistics.median(ratios):.2f} times faster  ({', '.join(f'{r:.2f}' for r in ratios)})")


def _size(parameter: Tensor) -> int:
    return parameter.numel() * (2 if isinstance(parameter, bnb.nn.Params4bit) else 1)


if __name__ == "__main__":
    main()
