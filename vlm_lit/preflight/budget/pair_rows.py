"""Layout of a preference run's pairs in rows, and what its reference takes besides, for a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vlm_lit.data.preference_datamodule import PreferenceDataModule
from vlm_lit.data.token_rows import TokenRows
from vlm_lit.training.answered import AnsweredModule
from vlm_lit.training.preference import PreferenceModule, check_corruption


@dataclass(frozen=True, kw_only=True)
class PairRows:
    """How pairs are laid out.

    Args:
        rows: the rows that a pair takes, which are the fewest of a micro-batch.
        apart: why its answers do not share a row; None where they do.
        corrupt: how the third answer's picture is corrupted; None where there is no third.
        reference: whether it is asked in every step (`live`) or kept on disk (`stored`); None where none is needed.
        from_adapter: whether the run begins at a saved adapter, of which the reference keeps a copy.
    """

    rows: int
    apart: str | None
    corrupt: str | None
    reference: Literal["live", "stored"] | None
    from_adapter: bool


def pair_rows(module: AnsweredModule, data: TokenRows[Any]) -> PairRows | None:
    """The layout of a run's pairs; None where it has none.

    Raises:
        ConfigError: losses and data do not fit each other.
    """
    if not (isinstance(module, PreferenceModule) and isinstance(data, PreferenceDataModule)):
        return None
    check_corruption(module.losses, data.corrupt)
    apart = module.shortcuts().unpackable if data.packing else "data.packing is false"
    return PairRows(
        rows=(1 if apart is None else 2) + (data.corrupt is not None),
        apart=apart,
        corrupt=data.corrupt,
        reference=None if not module.compares else "live" if module.reference_store is None else "stored",
        from_adapter=module.adapter is not None,
    )
