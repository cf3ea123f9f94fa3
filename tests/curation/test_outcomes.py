"""Tests of the sum: a row that has no outcome is a mistake of the program, and is said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from vlm_lit.curation.outcomes import RejectedRow, RowLedger, check_sum
from vlm_lit.curation.source_rows import SourceRow


def test_a_lost_row_is_said() -> None:
    check_sum(5, 2, 1, Counter(a=1, b=1))
    with pytest.raises(RuntimeError, match="a row was lost"):
        check_sum(6, 2, 1, Counter(a=1, b=1))


def test_a_ledger_counts_what_it_has() -> None:
    row = SourceRow(source="a.json", index=0, folder=Path())
    rejected = RejectedRow(row=row, code="image.missing", problem="", remedy="")
    assert RowLedger(outcomes=[rejected], read=1).count() == (0, 0, Counter({"image.missing": 1}))
    with pytest.raises(RuntimeError, match="a row was lost"):
        RowLedger(outcomes=[rejected], read=2).count()
