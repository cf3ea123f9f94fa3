"""LoRA and fully trained parts on a loaded model: on the asked parts and nowhere else.

Leaf names alone are not safe (`q_proj` also stands in CLIP, SigLIP and Pixtral towers), so targets are part x leaf,
as one regular expression that must match the whole dotted name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.constants import DUMMY_TARGET_MODULES
from peft.utils.other import ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.models.adapted_4bit import take_the_short_way
from vlm_lit.models.bounded_patterns import by_layer, check_layered
from vlm_lit.models.families import Family, PartName, names_of, owner_of
from vlm_lit.models.frozen_start import add_start
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.tower_boundary import trained_blocks


def _decoder_leaves(family: Family, lora: LoraSettings) -> list[str]:
    known = [leaf for target in lora.targets for leaf in getattr(family, target)]
    if lora.leaves is None:
        return known
    every = family.attention + family.mlp
    for leaf in lora.leaves:
        if leaf not in every:
            raise ConfigError(f"lora.leaves names {leaf!r}; this family's decoder layers have {', '.join(every)}.")
    return lora.leaves


def _leaf_pattern(leaves: Sequence[str]) -> str:
    """A pattern for layers inside a decoder layer: a bare name at any depth, a name with a dot from the top."""
    bare, paths = ([leaf for leaf in leaves if ("." in leaf) == dotted] for dotted in (False, True))
    patterns = [*([rf"(?:\w+\.)*(?:{'|'.join(bare)})"] if bare else []), *map(re.escape, paths)]
    return patterns[0] if len(patterns) == 1 else f"(?:{'|'.join(patterns)})"


def _decoder_indices(model: nn.Module, family: Family, lora: LoraSettings) -> str:
    """A pattern for the indices of the decoder layers to adapt; read off the model, since configs count differently."""
    if lora.last_share == 1.0:
        return r"\d+"
    count = len(list(model.get_submodule(family.decoder_layers).children()))
    adapted = max(1, round(count * lora.last_share))
    return "(?:" + "|".join(map(str, range(count - adapted, count))) + ")"


def _numbered(name: str) -> str:
    """A pattern for `name` and its siblings in other layers: numbers inside it may be any."""
    return re.sub(r"\\\.\d+(?=\\\.)", lambda _: r"\.\d+", re.escape(name))


def _pattern(model: nn.Module, part: PartName, family: Family, lora: LoraSettings) -> str:
    if part == "language_model":
        indices, leaves = _decoder_indices(model, family, lora), _leaf_pattern(_decoder_leaves(family, lora))
        return rf"{re.escape(family.decoder_layers)}\.{indices}\.{leaves}"
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    owned = names_of(part, linear, family)
    if not owned:
        raise ConfigError(f"{part}.training is lora, but {part} has no linear layer inside; use full or frozen.")
    if part == "vision_tower" and family.boundary is not None:
        blocks = trained_blocks(family)
        return "|".join(re.escape(name) for name in owned if name.startswith(blocks))
    # Whole names: a tower's layers may be called as those of the projector that lies inside it.
    return "|".join(sorted({_numbered(name) for name in owned}))


def target_pattern(model: nn.Module, family: Family, parts: PartsSettings, lora: LoraSettings) -> str | None:
    """Regular expression for the full names of the layers LoRA goes on; None where no part asks for LoRA."""
    patterns = [_pattern(model, part, family, lora) for part in parts.trained_as("lora")]
    return "|".join(f"(?:{pattern})" for pattern in patterns) or None


def modules_in_full(model: nn.Module, part: PartName, family: Family, *, last_layers: int | None = None) -> list[str]:
    """Names of the fewest modules that together hold all of `part` and nothing of another part.

    A root is not enough: Qwen's projector lies inside its tower. Lists of modules are taken apart, since PEFT can only
    save what has a forward pass; a parameter that stands alone outside any such module stays frozen. With `last_layers`
    it is the last decoder layers and what stands behind them, in place of all of `part`.

    Raises:
        ConfigError: there are fewer decoder layers than `last_layers`.
    """
    if last_layers is not None:
        return [*_last_layers(model, family, last_layers), *family.above_layers]
    owned = names_of(part, [name for name, _ in model.named_parameters()], family)

    def cover(name: str) -> list[str]:
        module = model.get_submodule(name)
        inside = [f"{name}.{inner}" for inner, _ in module.named_parameters()]
        if not any(inner in owned for inner in inside):
            return []
        whole = all(owner_of(inner, family) == part for inner in inside)
        if whole and not isinstance(module, nn.ModuleList | nn.ModuleDict):
            return [name]
        return [found for child, _ in module.named_children() for found in cover(f"{name}.{child}")]

    return [found for root in family.roots(part) if is_module(model, root) for found in cover(root)]


def _last_layers(model: nn.Module, family: Family, count: int) -> list[str]:
    there = len(list(model.get_submodule(family.decoder_layers).children()))
    if count > there:
        raise ConfigError(
            f"parts.language_model.last_layers is {count}, but this checkpoint has {there} decoder layers. Set it to "
            f"a number from 1 to {there}, or to null to train the whole part."
        )
    return [f"{family.decoder_layers}.{index}" for index in range(there - count, there)]


def is_module(model: nn.Module, name: str) -> bool:
    """Whether a part's root is a module, rather than a parameter that stands alone."""
    return any(name == found for found, _ in model.named_modules())


def lora_config(model: nn.Module, family: Family, parts: PartsSettings, lora: LoraSettings) -> LoraConfig:
    """The PEFT config: LoRA on the asked parts, the fully trained parts as modules to save.

    A part that merely had `requires_grad` set would train as well and be absent from the saved adapter.

    Raises:
        ConfigError: a pattern in `lora.ranks` or `lora.alphas` fits no layer that gets an update, or does not end.
    """
    targets = target_pattern(model, family, parts, lora)
    names = [name for name, _ in model.named_modules()]
    adapted = [name for name in names if targets and re.fullmatch(targets, name)]
    check_layered(lora.layered, names, adapted)
    full = [
        name
        for part in parts.trained_as("full")
        for name in modules_in_full(model, part, family, last_layers=parts.of(part).last_layers)
    ]
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        bias="none",
        use_rslora=lora.scaling == "rank_stabilised",
        use_dora=lora.dora,
        # By whole names: PEFT sorts patterns when it saves them, and another one would be the first to fit.
        rank_pattern=by_layer(lora.ranks or {}, adapted),
        alpha_pattern=by_layer(lora.alphas or {}, adapted),
        target_modules=targets or DUMMY_TARGET_MODULES,
        modules_to_save=full or None,
    )


def _refuse_tied(model: nn.Module, parts: PartsSettings) -> None:
    if not has_tied_head(model):
        return
    # The last layers of a language model are trained without its word embeddings.
    whole = parts.language_model.training == "full" and parts.language_model.last_layers is None
    trained: dict[PartName, bool] = {"head": parts.head.training != "frozen", "language_model": whole}
    for part, drifts in trained.items():
        if drifts:
            raise ConfigError(
                f"{part}.training is {parts.of(part).training}, but this checkpoint's head shares its weights with the "
                "word embeddings; trained copies would drift apart. Use lora for the language_model and a frozen head."
            )


def has_tied_head(model: nn.Module) -> bool:
    """Whether the head's matrix is the embedding matrix."""
    words, head = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[operator]
    return head is not None and words is not None and head.weight is words.weight


def attach_adapters(
    model: nn.Module, family: Family, parts: PartsSettings, lora: LoraSettings, *, seed: int
) -> PeftModel:
    """Freeze `model`, then put on it what `parts` asks to train. Fully trained weights become float32 masters.

    The LoRA matrices are drawn from `seed` alone, whatever random numbers were used before. A start that is computed
    from weights or data is for `starts` to set; until then an update is zero.
    """
    _refuse_tied(model, parts)
    model.requires_grad_(False)
    # By the CPU's generator alone, whatever device the model is on: the same start everywhere, and no device's random
    # numbers are moved.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        adapted = get_peft_model(model, lora_config(model, family, parts, lora))
        if lora.start == "pissa":
            add_start(adapted)
    take_the_short_way(adapted)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


class DroppedOriginal(nn.Module):
    """The place of a module that PEFT keeps beside its trained copy, where nothing asks for it."""

    def forward(self, *inputs: object, **options: object) -> NoReturn:
        """Refuse to stand in for it.

        Raises:
            VlmLitError: always.
        """
        raise VlmLitError("The original of a fully trained module was dropped; load the base anew to have it.")


def drop_originals(model: nn.Module) -> None:
    """Free the frozen copy that PEFT keeps of each fully trained module: as many bytes as a 7B model has, once more.

    The model can no longer run with its adapters switched off.
    """
    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            module.original_module = DroppedOriginal()


def recompute_activations(base: PreTrainedModel, family: Family, parts: Sequence[PartName]) -> None:
    """Let the layers of `parts` compute their activations again in the backward pass instead of keeping them.

    A part that is frozen keeps none in any case.
    """
    base.activation_checkpointing_enable({"use_reentrant": False})
    # The call above also makes a frozen tower's embeddings require gradients, which keeps its whole graph.
    base.disable_input_require_grads()
    for name, module in base.named_modules():
        owner = owner_of(name, family)
        if owner is not None and owner not in parts and hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = False
