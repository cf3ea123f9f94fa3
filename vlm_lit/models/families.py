"""Facts about each architecture: its parts and where they are. The only file that knows a module path or an auto class.

A fact sheet per `config.model_type`. Paths are those inside what the family's auto class loads, and name part roots
only: what lies deeper moves between transformers versions. Where two paths match a parameter the
longest owns it. `tests/models/test_families.py` proves on a tiny model of each family that every path resolves
and that every parameter has exactly one owner; a new family is one entry here and its tiny model there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from vlm_lit.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

PartName = Literal["vision_tower", "projector", "embeddings", "language_model", "head"]
Task = Literal["generate", "classify"]
"""How a model answers: in words that it generates, or by the score of each answer in a list."""

Projected = Literal["rows", "images", "tiles", "windows", "deepstack", "states"]
LayeredPart = Literal["vision_tower", "language_model"]
"""The parts that are a stack of layers."""

LAYERED: Final[tuple[LayeredPart, ...]] = ("vision_tower", "language_model")
PART_NAMES: Final[tuple[PartName, ...]] = ("vision_tower", "projector", "embeddings", "language_model", "head")


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """The place in a vision tower above which it trains.

    Args:
        blocks: path of the tower's list of blocks.
        first: number of the first block that trains; those below are frozen.
        used: how many blocks are used; LLaVA leaves its last one out.
        read: numbers of the frozen blocks that something else than the next block reads, the last of them aside.
    """

    blocks: str
    first: int
    used: int
    read: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Family:
    """The facts of one architecture.

    Args:
        task: how it answers: `generate` words, or `classify`: choose among a list of answers.
        auto_class: name of the transformers class that loads its checkpoints.
        backbone: path of the model without its head.
        vision_tower, projector, embeddings, language_model, head: dotted paths of each part's roots: modules, lists of
            modules, or single parameters; empty where the architecture has no such part. `embeddings` is what turns
            words and patches into the transformer's inputs, where the architecture has one stream for both.
        decoder_layers: path of the language model's list of layers.
        above_layers: paths of what the language model has behind its layers.
        attention: names of the linear layers inside a decoder layer's attention. A name with a dot is a path from the
            decoder layer, for architectures that call several layers alike.
        mlp: names of the linear layers inside a decoder layer's feed-forward block.
        dropout: the config's field of the dropout that the architecture was published with.
        causal_prompt: whether a prompt token sees only what stands before it.
        positions: how positions are counted: along the row, or by multimodal rotary sections.
        masks_by_kind: whether the model takes a mask for each kind of layer: one for those that see the whole row, one
            for those that see the last tokens of it.
        unpackable: why questions that share an image cannot share a row; None where they can.
        projected: how projected vision features, where they are cached, are handed to the model:
            `rows` as one list of them all, whichever image they are of; `images` a block a tile or image; `tiles` cut
            and joined to pictures again; `windows` as rows, once their order is undone; `deepstack` with those of
            deeper layers; `states` for cross-attention. None where nobody has tried.
        boundary: where the tower begins to train, in a run that trains its last blocks alone.
    """

    task: Task = "generate"
    auto_class: str = "AutoModelForImageTextToText"
    backbone: str = "model"
    vision_tower: tuple[str, ...] = ()
    projector: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = ()
    language_model: tuple[str, ...]
    decoder_layers: str
    above_layers: tuple[str, ...]
    head: tuple[str, ...] = ("lm_head",)
    attention: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    mlp: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    dropout: str | None = None
    causal_prompt: bool = True
    positions: Literal["row", "mrope"] = "row"
    masks_by_kind: bool = False
    unpackable: str | None = None
    projected: Projected | None = None
    boundary: Boundary | None = None

    def roots(self, part: PartName) -> tuple[str, ...]:
        """The dotted paths of `part`'s roots."""
        found: tuple[str, ...] = getattr(self, part)
        return found

    def auto(self) -> Any:  # noqa: ANN401 - transformers' auto classes have no common type that says from_pretrained
        """The transformers class that loads its checkpoints."""
        import transformers  # heavy, and the facts alone are asked for far more often

        return getattr(transformers, self.auto_class)

    def backbone_of(self, base: nn.Module) -> Any:  # noqa: ANN401 - each architecture's own class
        """The model without its head: from the inputs to the last hidden states [B, L, D].

        Args:
            base: the model as its auto class gives it, without a PEFT shell.
        """
        return base.get_submodule(self.backbone)


# LLaVA-1.5, and Pixtral, whose checkpoints say `llava` as well.
_LLAVA: Final = Family(
    vision_tower=("model.vision_tower",),
    projector=("model.multi_modal_projector",),
    language_model=("model.language_model",),
    decoder_layers="model.language_model.layers",
    above_layers=("model.language_model.norm",),
    projected="rows",
)
_IDEFICS3: Final = Family(
    vision_tower=("model.vision_model",),
    projector=("model.connector",),
    language_model=("model.text_model",),
    decoder_layers="model.text_model.layers",
    above_layers=("model.text_model.norm",),
    projected="images",
)
_QWEN2_VL: Final = Family(
    vision_tower=("model.visual",),
    projector=("model.visual.merger",),
    language_model=("model.language_model",),
    decoder_layers="model.language_model.layers",
    above_layers=("model.language_model.norm",),
    positions="mrope",
    projected="rows",
)
# One transformer for words and patches, and a head over a list of answers.
_VILT: Final = Family(
    task="classify",
    auto_class="AutoModelForVisualQuestionAnswering",
    backbone="vilt",
    embeddings=("vilt.embeddings",),
    language_model=("vilt.encoder", "vilt.layernorm", "vilt.pooler"),
    decoder_layers="vilt.encoder.layer",
    above_layers=("vilt.layernorm", "vilt.pooler"),
    head=("classifier",),
    attention=("query", "key", "value", "attention.output.dense"),
    mlp=("intermediate.dense", "output.dense"),
    # The original's drop_rate (dandelin/ViLT 762fd39) is that of embeddings and of what attention and feed-forward
    # block put out; its dropout of attention weights is 0.
    dropout="hidden_dropout_prob",
    causal_prompt=False,
    unpackable="it reads one question with one picture",
)

FAMILIES: Final[dict[str, Family]] = {
    "llava": _LLAVA,
    # `image_newline` is a bare parameter, which PEFT cannot save: it stays as the checkpoint has it.
    "llava_next": replace(_LLAVA, projector=("model.multi_modal_projector", "model.image_newline"), projected="tiles"),
    "idefics3": _IDEFICS3,
    "smolvlm": _IDEFICS3,
    "qwen2_vl": _QWEN2_VL,
    "qwen2_5_vl": replace(_QWEN2_VL, projected="windows"),
    # Deep layers of the tower have mergers of their own, which feed early layers of the language model.
    "qwen3_vl": replace(
        _QWEN2_VL,
        projector=("model.visual.merger", "model.visual.deepstack_merger_list"),
        projected="deepstack",
    ),
    # Llama-3.2-Vision: the language model's cross-attention layers lie among its others.
    "mllama": replace(
        _LLAVA,
        vision_tower=("model.vision_model",),
        unpackable="its words reach images by cross-attention, whose mask does not tell packed questions apart",
        projected="states",
    ),
    "paligemma": replace(
        _LLAVA,
        causal_prompt=False,
        unpackable="its whole prompt sees itself in both directions",
        projected="images",
    ),
    "gemma3": replace(
        _LLAVA,
        causal_prompt=False,
        masks_by_kind=True,
        unpackable="the tokens of its images see each other in both directions",
        projected="images",
    ),
    "internvl": replace(_LLAVA, projected="images"),
    "vilt": _VILT,
}

_ASKED_OF_PICTURES: Final[dict[str, str]] = {
    "llava_next": "how it is cut into tiles",
    "pixtral": "its size",
    "idefics3": "how it is cut into tiles",
    "smolvlm": "how it is cut into tiles",
    "qwen2_vl": "its size",
    "qwen2_5_vl": "its size",
    "qwen3_vl": "its size",
    "mllama": "how it is cut into tiles",
    "internvl": "how it is cut into tiles",
}

_OWN_CODE: Final = "its checkpoint brings code of its own, and no downloaded code is run here"
_REGIONS: Final = (
    "it reads regions that a Faster R-CNN of its own finds in a picture, which no processor of transformers does, and "
    "other regions give wrong answers; use ViLT"
)
_NO_HEAD: Final = "transformers has no head for answers to questions on it; use ViLT"
_EXPERTS: Final = "its experts are fused parameters, which neither 4-bit layers nor LoRA targets reach"

REFUSED: Final[dict[str, str]] = {
    "blip": "it generates answers with a decoder that has no chat template, untried here; use a family below or ViLT",
    "bridgetower": _NO_HEAD,
    "flava": _NO_HEAD,
    "gemma3n": "its pictures and sound pass towers that share no interface with the others'; use Gemma3",
    "idefics2": "its projector is a resampler with attention of its own, untried here; use Idefics3",
    "internvl_chat": f"{_OWN_CODE}; use the checkpoint whose name ends in -hf",
    "llama4": _EXPERTS,
    "llava_llama": "this is the original code's format; use the checkpoint of llava-hf",
    "llava_mistral": "this is the original code's format; use the checkpoint of llava-hf",
    "lxmert": _REGIONS,
    "minicpmv": _OWN_CODE,
    "molmo": _OWN_CODE,
    "phi3_v": _OWN_CODE,
    "qwen3_vl_moe": _EXPERTS,
    "visual_bert": _REGIONS,
}
"""Architectures that people ask for, and why each cannot be had."""


def family_of(model_type: str) -> Family:
    """The facts for a `config.model_type`.

    Raises:
        ConfigError: the architecture is refused, with the reason, or has no entry: what to add, where, and which test
            proves it.
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    known = ", ".join(sorted(FAMILIES))
    if model_type in REFUSED:
        raise ConfigError(f"Model type {model_type!r} is not supported: {REFUSED[model_type]}. Supported are {known}.")
    raise ConfigError(
        f"Model type {model_type!r} is not supported; known are {known}. To add it, write its "
        "Family entry (vision_tower, projector, language_model, decoder_layers, above_layers, layer names) in "
        "vlm_lit/models/families.py and its tiny model in tests/support/tiny_families/; "
        "tests/models/test_families.py then proves the paths, and tests/families/ every promise made for a family."
    )


_DOORS: Final[dict[Task, str]] = {"generate": "vlm_lit.SupervisedModule", "classify": "vlm_lit.ClassifierModule"}
_ANSWERS: Final[dict[Task, str]] = {
    "generate": "generates its answers word by word",
    "classify": "chooses its answers from a list",
}


def check_task(model_type: str, task: Task) -> None:
    """Refuse an architecture that answers in another way than it is asked to.

    Raises:
        ConfigError: naming the class that is for it; or the architecture is unknown.
    """
    own = family_of(model_type).task
    if own != task:
        raise ConfigError(
            f"Model type {model_type!r} {_ANSWERS[own]}, so it is no model for {_DOORS[task]}. Set model.class_path to "
            f"{_DOORS[own]}, or model_id to a checkpoint that {_ANSWERS[task]}."
        )


def family_of_class(name: str) -> Family | None:
    """The facts for a transformers model class such as LlavaForConditionalGeneration; None where no family has it."""
    from transformers.models.auto.modeling_auto import (  # heavy
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        MODEL_FOR_VISUAL_QUESTION_ANSWERING_MAPPING_NAMES,
    )

    named: dict[Task, dict[str, str]] = {
        "generate": MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        "classify": MODEL_FOR_VISUAL_QUESTION_ANSWERING_MAPPING_NAMES,
    }
    return next((family for kind, family in FAMILIES.items() if named[family.task].get(kind) == name), None)


def asked_of_pictures(model_type: str, tower: str) -> str | None:
    """What decides how many tokens a picture becomes; None where every picture becomes as many.

    Args:
        model_type: the checkpoint's `config.model_type`.
        tower: its `config.vision_config.model_type`: the same architecture may have one tower or another.
    """
    return _ASKED_OF_PICTURES.get(model_type, _ASKED_OF_PICTURES.get(tower))


def _lies_under(name: str, root: str) -> bool:
    return name == root or name.startswith(root + ".")


def owner_of(name: str, family: Family) -> PartName | None:
    """The part that owns a module or parameter called `name`: the longest matching root; None if no root matches."""
    matching = [(len(root), part) for part in PART_NAMES for root in family.roots(part) if _lies_under(name, root)]
    return max(matching)[1] if matching else None


def names_of(part: PartName, names: Iterable[str], family: Family) -> list[str]:
    """Those of `names` that `part` owns, in their order."""
    return [name for name in names if owner_of(name, family) == part]
