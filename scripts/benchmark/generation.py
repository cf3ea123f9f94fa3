"""Benchmark of generation: questions answered one way and another, by turns.

    python scripts/benchmark/generation.py [--images 4] [--questions 5] [--tokens 8] [--repeats 5] [--kv_heads 8]
    python scripts/benchmark/generation.py --long [--images 24] [--batch 8] [--tokens 120]
    python scripts/benchmark/generation.py --apart [--images 24] [--batch 8] [--tokens 120]
    python scripts/benchmark/generation.py --choices 50 [--images 4]

The first puts the questions of an image into one row against a row each, as transformers generates. The second asks a
question an image, whose answers differ in length, `--batch` at a time: a batch behind the other, against batches whose
answered questions make room for the next. The third does so with left-padded rows, as of models whose prompts cannot be
packed: a batch behind the other is transformers' own loop there. The last chooses each answer from a list, behind such
rows: a prompt is read for every answer of the list, against once.

With `--kv_heads 1` eight heads of queries share one of keys (in Qwen2.5-VL-7B it is seven). Both ways take turns on one
randomly initialised LLaVA of 64 million parameters (CLIP tower, 256 image tokens; NF4 language model, float32 compute).
Printed are each way's answers a second (median), the ratio of their seconds turn by turn (median; on a machine that
others use, the processor's seconds are the ones to look at), and whether all answers are the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import bitsandbytes as bnb
import provenance
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from vlm_lit.models import closed_set
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.frozen_products import multiply_frozen
from vlm_lit.models.generation import StopTokens, generate
from vlm_lit.models.running_answers import RunningAnswers
from vlm_lit.models.sampling import Sampler, SamplingSettings
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
    multiply_frozen(made)  # as the loader does
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


Ways = dict[str, Callable[[], list[list[int]]]]


def together(made: nn.Module, given: argparse.Namespace) -> Ways:
    """A row a question, and a row an image."""
    stop = StopTokens(end_of_turn=(END,), pad=PAD, forbidden=(IMAGE,))
    pixels, asked = questions(given.images, given.questions)
    single, (shared, segments) = plain(pixels, asked), packed(pixels, asked)
    longest = {"max_new_tokens": given.tokens, "stop": stop}
    return {
        "a row a question": lambda: generate(made, single, **longest),
        "a row an image": lambda: generate_shared(made, shared, segments, family=FAMILIES["llava"], **longest),
    }


def refilled(made: nn.Module, given: argparse.Namespace) -> Ways:
    """A batch behind the other, and batches that begin when half of the one before is answered."""
    # Tokens are drawn, and one in forty ends an answer: some have a few tokens and some all that they may.
    stop = StopTokens(end_of_turn=tuple(range(END, VOCABULARY, 40)), pad=PAD, forbidden=(IMAGE,))
    pixels, asked = questions(given.images, 1)
    cuts = [slice(at, at + given.batch) for at in range(0, given.images, given.batch)]
    batches = [
        (plain(pixels[cut], asked[cut]), None) if given.apart else packed(pixels[cut], asked[cut]) for cut in cuts
    ]

    def drawn(number: int) -> Sampler:
        return Sampler(SamplingSettings(), [f"{number}/{k}" for k in range(len(asked[cuts[number]]))])

    def in_turn(until: int) -> list[list[int]]:
        running = RunningAnswers(made, FAMILIES["llava"], max_new_tokens=given.tokens, stop=stop)
        found: list[tuple[int, list[int]]] = []
        for number, (inputs, segments) in enumerate(batches):
            running.add(inputs, segments, drawn(number))
            found += running.run(until)
        return [tokens for _, tokens in sorted(found + running.run())]

    def theirs() -> list[list[int]]:
        answers = [
            generate(made, inputs, max_new_tokens=given.tokens, stop=stop, sampler=drawn(number))
            for number, (inputs, _) in enumerate(batches)
        ]
        return [tokens for batch in answers for tokens in batch]

    one_by_one = theirs if given.apart else lambda: in_turn(0)
    return {"a batch behind the other": one_by_one, "refilled": lambda: in_turn(given.batch // 2)}


def chosen(made: nn.Module, given: argparse.Namespace) -> Ways:
    """A prompt read for every answer of a list, and once."""
    inputs = plain(*questions(given.images, 1))
    generator = torch.Generator().manual_seed(2)
    listed = torch.randint(3, IMAGE, (given.choices, 3), generator=generator).tolist()
    answers = [[*tokens[: 1 + number % 3], END] for number, tokens in enumerate(listed)]

    def likeliest(*, once: bool) -> list[list[int]]:
        with nullcontext() if once else patch.object(closed_set, "readable_once", lambda *_: False):
            scores = closed_set.closed_set_scores(made, inputs, None, answers, family=FAMILIES["llava"], pad=PAD)
        return [answers[number] for number in scores.argmax(1).tolist()]

    return {
        "a prompt read for each answer": lambda: likeliest(once=False),
        "read once": lambda: likeliest(once=True),
    }


def measured(ways: Ways, given: argparse.Namespace) -> dict[str, object]:
    """Both ways by turns, and the ratios of neighbouring turns: how many times faster the second is."""
    # The first of each warms up, where it is short.
    found = {name: [] if _kind(given) in _LONG else [timed(way)][:0] for name, way in ways.items()}
    for _ in range(given.repeats):
        for name, way in ways.items():
            found[name].append(timed(way))
    slow, fast = found.values()
    pairs = list(zip(slow, fast, strict=True))
    processor = [one.processor / other.processor for one, other in pairs]
    clock = [one.clock / other.clock for one, other in pairs]
    answers = fast[0].answers
    return {
        "workload": _kind(given),
        "settings": {name: value for name, value in vars(given).items() if name not in ("output", "long", "apart")},
        "ways": list(found),
        "answers_per_second": [len(answers) / statistics.median(t.clock for t in turns) for turns in found.values()],
        "answer_tokens": {"mean": statistics.mean(map(len, answers)), "most": max(map(len, answers))},
        "processor_ratio": statistics.median(processor),
        "processor_ratios": processor,
        "clock_ratio": statistics.median(clock),
        "clock_ratios": clock,
        "identical": all(one.answers == other.answers for one, other in pairs),
    }


def options() -> argparse.Namespace:
    """What was asked for; what was left out has a default of the workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="answers of several lengths, a question an image")
    parser.add_argument("--apart", action="store_true", help="the same, in rows that are not packed")
    parser.add_argument("--choices", type=int, default=0, help="answers of the list that each is chosen from")
    parser.add_argument("--output", type=Path, help="JSON file to write; results of other settings in it are kept")
    for name, default in {"repeats": 5, "threads": 2, "kv_heads": 8, "batch": 8, "questions": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--images", type=int, help="4, or 24 with --long or --apart")
    parser.add_argument("--tokens", type=int, help="longest answer: 8, or 120 with --long or --apart")
    given = parser.parse_args()
    images, tokens = (24, 120) if _kind(given) in _LONG else (4, 8)
    given.images, given.tokens = given.images or images, given.tokens or tokens
    return given


_LONG: Final = ("long", "apart")
_WAYS: Final = {"short": together, "long": refilled, "apart": refilled, "choices": chosen}


def _kind(given: argparse.Namespace) -> str:
    """The workload that is asked for."""
    return "choices" if given.choices else "apart" if given.apart else "long" if given.long else "short"


def main() -> None:
    """Measure and print."""
    given = options()
    torch.set_num_threads(given.threads)
    made = model(given.kv_heads)
    result = measured(_WAYS[_kind(given)](made, given), given)
    print(json.dumps(result, indent=1))
    print(f"parameters: {sum(_size(p) for p in made.parameters()) / 1e6:.1f} million")
    if given.output is not None:
        about = provenance.of_this_run()
        kept = json.loads(given.output.read_text())["results"] if given.output.exists() else []
        results = {_identity(one): one for one in (*kept, result | {"commit": about["commit"]})}
        about |= {"threads": given.threads, "results": list(results.values())}
        given.output.write_text(json.dumps(about, indent=1) + "\n")


def _identity(result: dict[str, Any]) -> tuple[object, ...]:
    return result["workload"], result["settings"]["kv_heads"]


def _size(parameter: Tensor) -> int:
    return parameter.numel() * (2 if isinstance(parameter, bnb.nn.Params4bit) else 1)


if __name__ == "__main__":
    main()
