"""Tests of a training step: one optimizer step, however its batch is cut, on the asked parts alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.support.runs import fit, run_dir, scalars, verb
from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.training.supervised import SupervisedModule

Config = Callable[..., Path]


def module_of(cli: VlmLitCLI) -> SupervisedModule:
    assert isinstance(cli.model, SupervisedModule)
    return cli.model


def gradients(config: Path, micro_batch: int) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the first step, its step batch cut into micro-batches of the given size."""
    seen: dict[int, torch.Tensor] = {}

    def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            seen[id(parameter)] = parameter.grad.clone()

    hook = register_optimizer_step_pre_hook(keep)
    try:
        cli = fit(config, f"--data.init_args.micro_batch={micro_batch}", "--trainer.max_steps=1", "--overwrite")
    finally:
        hook.remove()
    loss = float(cli.trainer.logged_metrics["train/loss"])
    return loss, {n: seen[id(p)] for n, p in module_of(cli).named_parameters() if id(p) in seen}


def test_equality_4_the_result_does_not_depend_on_the_micro_batch(config: Config) -> None:
    path = config(model={"gradient_clip": None, "activation_checkpointing": False})
    one, two, eight = (gradients(path, n) for n in (1, 2, 8))
    assert len(one[1]) == 20  # 16 LoRA matrices, 4 tensors of the projector
    for other in (two, eight):
        assert other[0] == pytest.approx(one[0], rel=1e-5)
        for name, gradient in one[1].items():
            scale = float(gradient.abs().max())
            # float32 sums in another order, relative to the largest entry: 1e-5 is some 80 rounding steps.
            torch.testing.assert_close(other[1][name], gradient, rtol=1e-5, atol=1e-5 * max(scale, 1e-6))


def test_a_mean_of_micro_batch_means_would_differ(config: Config) -> None:
    # Negative control: what plain gradient accumulation computes. Answers are of different lengths.
    cli = fit(config(), "--trainer.max_steps=1", "--data.init_args.micro_batch=1")
    module = module_of(cli)
    step_batch = next(iter(module.data.train_dataloader()))
    with torch.no_grad():
        sums = [float(module.loss(batch)) for batch in step_batch.micro_batches]
    counts = [int((batch.labels != -100).sum()) for batch in step_batch.micro_batches]
    token_mean = sum(sums) / sum(counts)
    mean_of_means = sum(s / n for s, n in zip(sums, counts, strict=True)) / len(sums)
    assert abs(mean_of_means - token_mean) > 1e-3 * token_mean


@pytest.mark.slow
def test_checkpointed_activations_give_the_same_gradients(config: Config) -> None:
    plain = gradients(config(model={"activation_checkpointing": False}), 4)
    recomputed = gradients(config(model={"activation_checkpointing": True}), 4)
    assert plain[0] == recomputed[0]
    assert all(torch.equal(recomputed[1][name], gradient) for name, gradient in plain[1].items())


@pytest.mark.slow
def test_frozen_parameters_stay_bit_identical_and_every_trainable_one_moves(config: Config) -> None:
    path = config()
    before = fit(path, "--trainer.max_steps=1", "--model.init_args.learning_rate=1e-30")
    start = {n: p.detach().clone() for n, p in module_of(before).named_parameters()}
    after = dict(module_of(fit(path, "--trainer.max_epochs=2", "--overwrite")).named_parameters())
    trainable = {n for n, p in after.items() if p.requires_grad}
    assert len(trainable) == 20
    for name, parameter in after.items():
        assert torch.equal(parameter, start[name]) == (name not in trainable), name


def test_a_frozen_tower_keeps_no_graph(config: Config) -> None:
    cli = fit(config(), "--trainer.max_steps=1")
    module = module_of(cli)
    seen: list[bool] = []
    tower = module.base.get_submodule("model.vision_tower")
    tower.register_forward_hook(lambda _m, _i, out: seen.append(out.last_hidden_state.requires_grad))
    step_batch = next(iter(module.data.train_dataloader()))
    module.loss(step_batch.micro_batches[0])
    assert seen == [False]


def test_a_loss_that_is_not_finite_stops_before_the_step(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    # Real divergence: one step this large overflows float32, and the next one finds inf or nan.
    path = config(model={"learning_rate": 1e30, "warmup_ratio": 0.0, "gradient_clip": None})
    assert verb("fit", path) == 2
    message = capsys.readouterr().err
    assert "nothing was stepped. Conversations: train" in message
    assert not (run_dir(path) / "adapter").exists()


def test_every_figure_of_a_step_is_logged(config: Config) -> None:
    path = config()
    fit(path)
    found = scalars(run_dir(path))
    for name in (
        "train/loss", "train/gradient_norm", "train/learning_rate/projector", "train/learning_rate/language_model",
        "train/samples_per_second", "train/tokens_per_second", "train/data_wait_share", "train/peak_memory_gib",
    ):  # fmt: skip
        assert len(found[name]) == 3, name
    assert found["train/loss"][-1][1] < found["train/loss"][0][1]
    assert "val/vqa_accuracy" in found
    assert "val/exact_match/other" in found


def test_the_learning_rate_warms_up_and_follows_a_cosine_per_part(config: Config) -> None:
    path = config(model={"warmup_ratio": 0.5, "learning_rate": 0.01}, trainer={"max_epochs": 2})
    fit(path)
    rates = [value for _, value in scalars(run_dir(path))["train/learning_rate/language_model"]]
    assert rates == pytest.approx([0.0, 0.01 / 3, 0.02 / 3, 0.01, 0.0075, 0.0025], abs=1e-9)


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize(
    "optimizer",
    [
        "bitsandbytes.optim.AdamW8bit",
        # On a CPU it says that it does not page, and steps.
        pytest.param("bitsandbytes.optim.PagedAdamW", marks=pytest.mark.filterwarnings("ignore:Paged optimizers")),
        "torch.optim.SGD",
    ],
)
def test_optimizers_are_named_by_class_path(optimizer: str, config: Config) -> None:
    cli = fit(config(model={"optimizer": {"class_path": optimizer}}), "--trainer.max_steps=1")
    used = cli.trainer.optimizers[0]
    assert f"{type(used).__module__}.{type(used).__name__}".startswith(optimizer.split(".")[0])
    assert type(used).__name__ == optimizer.rsplit(".", 1)[-1]
