"""How much faster are the questions of an image answered together than each in a row of its own?

    python scripts/benchmark/generation.py [--images 4] [--questions 5] [--tokens 8] [--repeats 5]

Both ways take turns on one randomly initialised LLaVA of 64 million parameters (CLIP tower, 256 image tokens; NF4
language model, float32 compute). Printed are each way's answers a second (median), their ratio over the repeats, and
whether all answers are the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
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


def model() -> LlavaForConditionalGeneration:
    """The model, its language model in NF4."""
    torch.manual_seed(0)
    text = LlamaConfig(
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
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


def timed(way: Callable[[], list[list[int]]]) -> tuple[float, list[list[int]]]:
    """Seconds, and the answers."""
    begin = time.perf_counter()
    answers = way()
    return time.perf_counter() - begin, answers


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 4), ("questions", 5), ("tokens", 8), ("repeats", 5), ("threads", 2)):
        options.add_argument(f"--{name}", type=int, default=default)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    made, stop = model(), StopTokens(end_of_turn=(END,), pad=PAD, forbidden=(IMAGE,))
    pixels, asked = questions(given.images, given.questions)
    single, (together, segments) = plain(pixels, asked), packed(pixels, asked)
    ways: dict[str, Callable[[], list[list[int]]]] = {
        "generate": lambda: generate(made, single, max_new_tokens=given.tokens, stop=stop),
        "shared": lambda: generate_shared(
            made, together, segments, family=FAMILIES["llava"], max_new_tokens=given.tokens, stop=stop
        ),
    }
    found = {name: [timed(way) for _ in range(1)] for name, way in ways.items()}  # warms up
    found = {name: [] for name in found}
    for _ in range(given.repeats):
        for name, way in ways.items():
            found[name].append(timed(way))
    seconds = {name: [second for second, _ in runs] for name, runs in found.items()}
    answers = given.images * given.questions
    for name, taken in seconds.items():
        print(
            f"{name:>9}: {answers / statistics.median(taken):6.2f} answers/s  ({', '.join(f'{t:.2f}' for t in taken)} s)"
        )
    ratios = [slow / fast for slow, fast in zip(seconds["generate"], seconds["shared"], strict=True)]
    print(f"    ratio: {statistics.median(ratios):.2f}  ({', '.join(f'{r:.2f}' for r in ratios)})")
    print(f"identical: {all(run[1] == found['generate'][0][1] for runs in found.values() for run in runs)}")
    print(f"parameters: {sum(_size(p) for p in made.parameters()) / 1e6:.1f} million")


def _size(parameter: Tensor) -> int:
    return parameter.numel() * (2 if isinstance(parameter, bnb.nn.Params4bit) else 1)


if __name__ == "__main__":
    main()
