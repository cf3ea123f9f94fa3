"""Which parts does each architecture have, and where? The only file that knows a module path.

A fact sheet per `config.model_type`. Paths are those inside `AutoModelForImageTextToText.from_pretrained(...)` and
name part roots only: what lies deeper moves between transformers versions. Where two paths match a parameter the
longest owns it. `tests/models/test_families.py` proves on a tiny model of each family that every path resolves
and that every parameter has exactly one owner; a new family is one entry here and its tiny model there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from vlm_lit.schema import ConfigError

PartName = Literal["vision_tower", "projector", "language_model", "head"]
PART_NAMES: Final[tuple[PartName, ...]] = ("vision_tower", "projector", "language_model", "head")


@dataclass(frozen=True, kw_only=True)
class Family:
    """The facts of one architecture.

    Args:
        vision_tower, projector, language_model, head: dotted paths of the part roots.
        decoder_layers: path of the language model's list of layers.
        attention: names of the linear layers inside a decoder layer's attention.
        mlp: names of the linear layers inside a decoder layer's feed-forward block.
        causal_prompt: whether a prompt token sees only what stands before it.
        positions: how positions are counted: along the row, or by multimodal rotary sections.
    """

    vision_tower: str
    projector: str
    language_model: str
    head: str
    decoder_layers: str
    attention: tuple[str, ...]
    mlp: tuple[str, ...]
    causal_prompt: bool
    positions: Literal["row", "mrope"]

    def path(self, part: PartName) -> str:
        """The dotted path of `part`'s root."""
        return str(getattr(self, part))


_LLAMA_ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "o_proj")
_LLAMA_MLP: Final = ("gate_proj", "up_proj", "down_proj")

FAMILIES: Final[dict[str, Family]] = {
    "llava": Family(
        vision_tower="model.vision_tower",
        projector="model.multi_modal_projector",
        language_model="model.language_model",
        head="lm_head",
        decoder_layers="model.language_model.layers",
        attention=_LLAMA_ATTENTION,
        mlp=_LLAMA_MLP,
        causal_prompt=True,
        positions="row",
    ),
}


def family_of(model_type: str) -> Family:
    """The facts for a `config.model_type`.

    Raises:
        ConfigError: the architecture has no entry; says what to add, where, and which test proves it.
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    raise ConfigError(
        f"Model type {model_type!r} is not supported; known are {', '.join(sorted(FAMILIES))}. To add it, write its "
        "Family entry (vision_tower, projector, language_model, head, layer names) in vlm_lit/models/families.py and "
        "its tiny model in tests/tiny_models.py; tests/models/test_families.py then proves the paths."
    )


def _lies_under(name: str, root: str) -> bool:
    return name == root or name.startswith(root + ".")


def owner_of(name: str, family: Family) -> PartName | None:
    """The part that owns a module or parameter called `name`: the longest matching root; None if no root matches."""
    owners = [part for part in PART_NAMES if _lies_under(name, family.path(part))]
    return max(owners, key=lambda part: len(family.path(part)), default=None)


def names_of(part: PartName, names: Iterable[str], family: Family) -> list[str]:
    """Those of `names` that `part` owns, in their order."""
    return [name for name in names if owner_of(name, family) == part]
