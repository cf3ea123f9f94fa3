"""Tests of a step on shapes alone: it needs what a real step was seen to need."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from torch import Tensor

from tests.support.budget_cases import BF16, SUPERVISED, batch, hollowed, loaded, module, parts
from tests.support.family_cases import FP32
from vlm_lit.errors import ConfigError
from vlm_lit.models.loading import load_config
from vlm_lit.models.shapes import fake_mode
from vlm_lit.preflight.budget.hollow_module import resident, sizes
from vlm_lit.preflight.budget.ledger import Ledger, telling_rows
from vlm_lit.preflight.budget.step import backbone_bytes, head_bytes, optimizer_bytes, set_checkpointing
from vlm_lit.training.optimization import parameter_groups
from vlm_lit.training.supervised import SupervisedModule

SHAPES = [(1, 40), (3, 40), (1, 96), (3, 96)]
# A few tensors of a real step do not grow with its rows where there is one row: 256 bytes of 60,000.
TOLERANCE = 0.005


@pytest.fixture(scope="module")
def image_token(tiny_llava: Path) -> int:
    token: int = load_config(str(tiny_llava)).image_token_id
    return token


def reckoned(made: SupervisedModule, folder: Path, rows: int, length: int, *, checkpointing: bool) -> tuple[int, int]:
    """Kept between the passes, and the most at any moment."""
    mode, config = fake_mode(), load_config(str(folder))
    hollow, autocast = hollowed(made, folder, mode), made.trainer.precision_plugin.train_step_context
    set_checkpointing(hollow, checkpointing)
    telling = telling_rows([*sizes(hollow, config), length])
    assert telling != rows  # one pass, with other rows, tells of all micro-batches
    backbone = backbone_bytes(hollow, mode, autocast, rows=telling, length=length, images=1)
    head = head_bytes(hollow, mode, autocast, rows=rows, length=length, supervised=SUPERVISED)
    return backbone.kept.at(rows), max(backbone.peak.at(rows), backbone.kept.at(rows) + head)


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("kind", ["nf4", "nf4 under bf16 autocast", "int8", "lora", "full"])
def test_a_real_step_takes_what_was_reckoned(
    kind: str, checkpointing: bool, tiny_llava: Path, image_token: int
) -> None:
    mixed = "autocast" in kind
    precision: Any = {"n": "nf4", "i": "int8", "l": "fp32", "f": "fp32"}[kind[0]]
    asked = parts(precision, other=BF16 if mixed else FP32, full=kind == "full")
    made = partial(
        module, tiny_llava, asked, checkpointing=checkpointing, precision="bf16-mixed" if mixed else "32-true"
    )
    real = loaded(made())
    with real.trainer.precision_plugin.train_step_context():
        real.loss(batch(1, 40, image_token)).backward()  # type: ignore[no-untyped-call] # bitsandbytes settles in its first pass
    for rows, length in SHAPES:
        with Ledger(1, resident(real)) as ledger, real.trainer.precision_plugin.train_step_context():
            shown = batch(rows, length, image_token)
            real.loss(shown).backward()  # type: ignore[no-untyped-call]
        _, peak = reckoned(made(), tiny_llava, rows, length, checkpointing=checkpointing)
        assert peak == pytest.approx(ledger.peak.at(1), rel=TOLERANCE), (rows, length)


@pytest.mark.parametrize(("rows", "length"), SHAPES)
def test_what_is_kept_is_what_autograd_saves_in_a_real_4bit_step(
    rows: int, length: int, tiny_llava: Path, image_token: int
) -> None:
    real = loaded(module(tiny_llava, parts("nf4"), checkpointing=False))
    own = {tensor.untyped_storage()._cdata for tensor in resident(real)}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    shown = batch(rows, length, image_token)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        hidden = real.hidden_states(shown)
    # Beside what is saved, a step holds the batch itself and the hidden states that the head is to read.
    others = sum(t.numel() * t.element_size() for t in [*shown.inputs.values(), shown.labels, hidden])
    kept, _ = reckoned(module(tiny_llava, parts("nf4")), tiny_llava, rows, length, checkpointing=False)
    assert kept == pytest.approx(sum(saved.values()) + others, rel=TOLERANCE)


def test_8bit_layers_keep_their_inputs_in_spite_of_checkpointing(tiny_llava: Path) -> None:
    kept = {
        kind: reckoned(module(tiny_llava, parts(kind)), tiny_llava, 2, 64, checkpointing=True)[0]
        for kind in ("nf4", "int8")
    }
    # By hand, float32: in each of 2 layers the inputs of q/k/v and of gate/up (shared), of o, and of down; 64 wide, the
    # last one 128. bitsandbytes holds them as plain attributes, which checkpointing cannot let go.
    assert kept["int8"] - kept["nf4"] == 2 * 64 * 2 * (64 + 64 + 64 + 128) * 4


def test_eager_attention_keeps_a_score_for_every_pair_of_tokens(tiny_llava: Path) -> None:
    def kept(length: int, attention: str) -> int:
        made = module(tiny_llava, parts("nf4"))
        made.attention = attention
        return reckoned(made, tiny_llava, 1, length, checkpointing=False)[0]

    def growth(attention: str) -> int:  # the second difference: what grows as the square of the length
        return kept(192, attention) - 2 * kept(128, attention) + kept(64, attention)

    pairs = 192**2 - 2 * 128**2 + 64**2
    # By hand, 2 layers of 2 heads in float32: sdpa keeps the mask that each layer adds, eager attention the weights of
    # each head, and the one mask that it is given in float32. The bool mask is in both.
    assert growth("sdpa") == pairs * (1 + 2 * 4)
    assert growth("eager") == pairs * (4 + 2 * 2 * 4)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda groups: torch.optim.AdamW(groups),
        lambda groups: torch.optim.SGD(groups, momentum=0.9),
        lambda groups: bnb.optim.AdamW8bit(groups, min_8bit_size=4096),
    ],
    ids=["AdamW", "SGD", "AdamW8bit"],
)
def test_optimizer_states_are_counted_to_the_byte(optimizer: Any, tiny_llava: Path) -> None:
    made = module(tiny_llava, parts("nf4"))
    made.optimizer = optimizer
    reckoned = optimizer_bytes(hollowed(made, tiny_llava))
    real = loaded(module(tiny_llava, parts("nf4")))
    assert real.family is not None
    stepped = optimizer(parameter_groups(real.base, real.family, real.parts, 1e-4))
    if isinstance(stepped, torch.optim.AdamW | torch.optim.SGD):
        stepped.step()
    else:  # bitsandbytes 0.50 has no 8-bit step on a CPU; it makes its states before that
        stepped.check_overrides()
        for g, group in enumerate(stepped.param_groups):
            for p, parameter in enumerate(group["params"]):
                stepped.init_state(group, parameter, g, p)
    tensors = {id(v): v for s in stepped.state.values() for v in s.values() if isinstance(v, Tensor)}
    assert reckoned.states == sum(t.numel() * t.element_size() for t in tensors.values())


def test_adamw_on_a_gpu_takes_a_copy_of_all_weights_in_between(tiny_llava: Path) -> None:
    hollow = hollowed(module(tiny_llava, parts("nf4")), tiny_llava)
    trained = sum(p.numel() * 4 for p in hollow.trainable_parameters())
    largest = max(
        sum(p.numel() * 4 for p in hollow.trainable_parameters() if p.numel() in of)
        for of in [{p.numel() for n, p in hollow.named_parameters() if part in n} for part in ("lora", "projector")]
    )
    assert largest <= optimizer_bytes(hollow).step <= 2 * trained


def test_an_optimizer_that_looks_at_gradients_is_named(tiny_llava: Path) -> None:
    made = module(tiny_llava, parts("nf4"))
    made.optimizer = lambda groups: torch.optim.Adafactor(groups)
    with pytest.raises(ConfigError, match="Adafactor decides by the gradients' values"):
        optimizer_bytes(hollowed(made, tiny_llava))
