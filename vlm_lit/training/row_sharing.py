"""Check of a loaded model against what its config promised when rows were to be shared."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from vlm_lit.errors import ConfigError
from vlm_lit.models.attention import unpackable
from vlm_lit.models.families import Family
from vlm_lit.training.protocols import SharesRows


def check_sharing(base: nn.Module, family: Family, data: object) -> None:
    """Refuse rows that questions share where the model's attention would not keep them apart.

    Args:
        base: the model, without its PEFT shell.
        family: its facts.
        data: the run's data module, if any.

    Raises:
        ConfigError: with the reason.
    """
    assert isinstance(base, PreTrainedModel)
    reason = unpackable(base, family)
    if isinstance(data, SharesRows) and data.packs and reason is not None:
        raise ConfigError(f"Questions about one image cannot share a row ({reason}). Set data.packing to false.")
