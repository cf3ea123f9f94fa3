"""Norm and singular values of each LoRA update that an adapter's files hold.

An update is scale * B A, with scale = alpha / rank (Hu et al. 2021, section 4.1), or alpha / sqrt(rank) where the
adapter says so. No base model is read, so nothing here is relative to the weights that are updated.

Suffixes: O = outputs of a layer, I = its inputs, R = rank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from vlm_lit.errors import VlmLitError
from vlm_lit.files.strict_json import read_json
from vlm_lit.models.adapter_state import FINGERPRINT, WEIGHTS
from vlm_lit.models.families import Family, PartName, family_of_class, owner_of
from vlm_lit.models.merge.base_source import adapter_folder

Matrix = NDArray[np.float64]

_LORA: Final = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_LAYER: Final = re.compile(r"(?P<stack>.+?)\.(?P<layer>\d+)\.(?P<leaf>.+)")
_CHANGES_THE_UPDATE: Final = ("use_dora", "alpha_pattern", "lora_bias", "use_qalora", "alora_invocation_tokens")


@dataclass(frozen=True, kw_only=True)
class LoraUpdate:
    """What is added to one linear layer.

    Args:
        part: that the layer belongs to.
        stack: dotted path of the list of layers it lies in, or of what holds it where that is no list.
        layer: its position in that list; None where there is none.
        leaf: dotted path within that, such as `self_attn.q_proj`.
        singular_values: of scale * B A, from large to small; as many as the rank, or as the layer's smaller side.
    """

    part: PartName
    stack: str
    layer: int | None
    leaf: str
    rank: int
    singular_values: tuple[float, ...]

    @property
    def norm(self) -> float:
        """Frobenius norm of the update."""
        return math.hypot(*self.singular_values)

    @property
    def stable_rank(self) -> float:
        """Squared Frobenius norm over the largest squared singular value: 1 for one direction; 0 for no update."""
        largest = self.singular_values[0]
        return (self.norm / largest) ** 2 if largest else 0.0


@dataclass(frozen=True, kw_only=True)
class AdapterAnatomy:
    """The updates in the order of stack, layer and leaf; how many numbers each part trained in full besides."""

    updates: tuple[LoraUpdate, ...]
    in_full: Mapping[PartName, int]

    @property
    def stacks(self) -> tuple[str, ...]:
        """The stacks that have an update."""
        return tuple(dict.fromkeys(update.stack for update in self.updates))

    def of(self, stack: str) -> tuple[LoraUpdate, ...]:
        """The updates in one stack."""
        return tuple(update for update in self.updates if update.stack == stack)


def adapter_anatomy(run: Path) -> AdapterAnatomy:
    """Read the adapter of a run directory, or the PEFT folder `run` itself.

    Raises:
        VlmLitError: there is none, it is damaged, or its update is another than scale * B A.
    """
    folder = adapter_folder(run)
    _refuse_loftq(folder / FINGERPRINT)
    settings = _settings(folder / "adapter_config.json")
    family = _family(folder / "adapter_config.json", settings)
    sides, full = _tensors(folder / WEIGHTS)
    updates = [
        _update(folder / WEIGHTS, module, found, settings, _part(folder / WEIGHTS, module, family))
        for module, found in sides.items()
    ]
    in_full: dict[PartName, int] = {}
    for name, size in full.items():
        part = _part(folder / WEIGHTS, name, family)
        in_full[part] = in_full.get(part, 0) + size
    return AdapterAnatomy(updates=tuple(sorted(updates, key=_place)), in_full=in_full)


def _refuse_loftq(path: Path) -> None:
    """Refuse an update that holds something that was not learned."""
    kept = read_json(path, remedy="Save the adapter again.", any_value=True) if path.is_file() else None
    lora = kept.get("lora") if isinstance(kept, dict) else None
    if isinstance(lora, dict) and lora.get("start") == "loftq":
        raise VlmLitError(
            f"{path}: lora.start is loftq, so B A holds what the base's 4-bit weights had lost beside what was "
            "learned. Only updates that begin at zero are read here."
        )


def _place(update: LoraUpdate) -> tuple[str, int, str]:
    return update.stack, -1 if update.layer is None else update.layer, update.leaf


def _settings(path: Path) -> dict[str, Any]:
    """The adapter's settings, none of which may make the update another one than is computed here."""
    settings = read_json(path, remedy="Save the adapter again.", any_value=True)
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        raise VlmLitError(f"{path}: is no LoRA adapter's. Name the directory of a run that trained with LoRA.")
    changed = [key for key in _CHANGES_THE_UPDATE if settings.get(key)]
    if changed:
        raise VlmLitError(
            f"{path}: {changed[0]} is set, so its update is not alpha / rank * B A. Only that is read here."
        )
    if not isinstance(settings.get("lora_alpha"), int | float):
        raise VlmLitError(f"{path}: lora_alpha is no number, so the update's scale is unknown. Save the adapter again.")
    return settings


def _family(path: Path, settings: Mapping[str, Any]) -> Family:
    """The architecture, by the class of its model."""
    name = (settings.get("auto_mapping") or {}).get("base_model_class")
    family = family_of_class(name) if name is not None else None
    if family is not None:
        return family
    raise VlmLitError(
        f"{path}: auto_mapping.base_model_class is {name}, which is no family known here, so its parts are not "
        "known. Name an adapter that this package wrote."
    )


def _part(path: Path, module: str, family: Family) -> PartName:
    part = owner_of(module, family)
    if part is None:
        raise VlmLitError(f"{path}: {module} belongs to no part of this architecture. Is it another model's adapter?")
    return part


def _tensors(path: Path) -> tuple[dict[str, dict[str, Matrix]], dict[str, int]]:
    """A [R, I] and B [O, R] by module, and the sizes of all other tensors by name."""
    sides: dict[str, dict[str, Matrix]] = {}
    full: dict[str, int] = {}
    try:
        with safe_open(path, "pt") as file:  # NumPy has no bfloat16
            for key in file.keys():  # noqa: SIM118
                name = key.removeprefix("base_model.model.")
                if found := _LORA.fullmatch(name):
                    matrix = file.get_tensor(key).double().numpy()
                    sides.setdefault(found["module"], {})[found["side"]] = _checked(path, key, matrix)
                elif "lora_" in name:
                    raise VlmLitError(f"{path}: {key} is no A or B of a linear layer. Only these are read here.")
                else:
                    full[name] = math.prod(file.get_slice(key).get_shape())
    except (OSError, SafetensorError) as error:
        raise VlmLitError(f"{path}: is damaged ({error}). Save the adapter again.") from error
    return sides, full


def _checked(path: Path, key: str, matrix: Matrix) -> Matrix:
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise VlmLitError(f"{path}: {key} has shape {matrix.shape}. Only LoRA on linear layers is read here.")
    if not np.isfinite(matrix).all():
        raise VlmLitError(f"{path}: {key} holds values that are not finite. The run it comes from has diverged.")
    return matrix


def _update(
    path: Path, module: str, sides: Mapping[str, Matrix], settings: Mapping[str, Any], part: PartName
) -> LoraUpdate:
    if sides.keys() != {"A", "B"} or sides["A"].shape[0] != sides["B"].shape[1]:
        raise VlmLitError(f"{path}: A and B of {module} do not fit each other. Save the adapter again.")
    rank = sides["A"].shape[0]
    scale = settings["lora_alpha"] / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    found = _LAYER.fullmatch(module)
    stack, _, leaf = module.rpartition(".")
    return LoraUpdate(
        part=part,
        stack=found["stack"] if found else stack,
        layer=int(found["layer"]) if found else None,
        leaf=found["leaf"] if found else leaf,
        rank=rank,
        singular_values=tuple((abs(scale) * singular_values(sides["B"], sides["A"])).tolist()),
    )


def singular_values(b_OR: Matrix, a_RI: Matrix) -> Matrix:
    """Those of B A, from large to small, without forming it.

    With B = Q S and A^T = P T, Q and P orthonormal, B A = Q (S T^T) P^T has the singular values of the small S T^T.
    """
    s, t = np.linalg.qr(b_OR).R, np.linalg.qr(a_RI.T).R
    found: Matrix = np.linalg.svd(s @ t.T, compute_uv=False)
    return found
