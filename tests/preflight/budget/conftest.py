"""Steps that are compared with what was reckoned for them."""

from __future__ import annotations

import pytest

from vlm_lit.models import element_wise, hidden_states


@pytest.fixture(autouse=True)
def as_reckoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step as on a GPU, where element-wise work is transformers' own, and with the whole last layer."""
    monkeypatch.setattr(element_wise, "_here", lambda *_: False)
    monkeypatch.setattr(hidden_states, "FEW", 0.0)
