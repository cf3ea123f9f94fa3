"""The transformers model that a module holds, with its family's facts and its place in the module."""

from __future__ import annotations

from dataclasses import dataclass

from lightning import LightningModule
from transformers import PreTrainedModel

from vlm_lit.errors import ConfigError
from vlm_lit.models.families import Family, family_of, owner_of

OTHER = "other"
"""What parameters belong to that a module has beside its model."""


@dataclass(frozen=True, kw_only=True)
class HeldModel:
    """A module's model: without a PEFT shell, its names starting with a part's path.

    Args:
        base: the model.
        family: its facts.
        path: where it stands in the module, with a dot behind; empty where it is the module.
    """

    base: PreTrainedModel
    family: Family
    path: str

    def name(self, parameter: str) -> str:
        """A parameter's name within the model; that within the module, where it is not of the model."""
        return parameter.removeprefix(self.path)

    def part(self, parameter: str) -> str:
        """The part that owns a parameter of the module."""
        return (owner_of(self.name(parameter), self.family) if parameter.startswith(self.path) else None) or OTHER


def held_model(module: LightningModule) -> HeldModel:
    """The model that `module` holds, once it is loaded.

    Raises:
        ConfigError: it holds none whose parts are known.
    """
    # A PEFT shell is no PreTrainedModel, so the first one found is the base.
    for path, inner in module.named_modules():
        if isinstance(inner, PreTrainedModel):
            own = getattr(module, "family", None)  # of ours, with what the run makes of it
            family = own if isinstance(own, Family) else family_of(str(inner.config.model_type))
            return HeldModel(base=inner, family=family, path=f"{path}." if path else "")
    raise ConfigError(
        f"{type(module).__name__} holds no transformers model, so nobody knows which of its parameters are whose. Let "
        "it load one in __init__ or configure_model."
    )
