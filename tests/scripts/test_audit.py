"""Tests of the audit's verdict: what could not be looked up is never taken for sound."""

from typing import Any

import audit

_SOUND: dict[str, Any] = {"name": "a", "version": "1", "vulns": []}
_FLAWED: dict[str, Any] = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
_UNKNOWN: dict[str, Any] = {"name": "c", "skip_reason": "Dependency not found"}


def test_what_was_not_looked_up_is_no_good_news() -> None:
    assert audit.verdict({"dependencies": [_SOUND]}) == (["1 of 1 pinned packages were looked up, 0 advisories."], 0)
    lines, status = audit.verdict({"dependencies": [_SOUND, _UNKNOWN]})
    assert status == 2
    assert lines[-1].startswith("Of the other 1 nothing is known; the first is c.")


def test_an_advisory_names_the_release_that_mends_it() -> None:
    lines, status = audit.verdict({"dependencies": [_FLAWED, _UNKNOWN]})
    assert status == 1
    assert lines[0] == "b 2: CVE-1, mended in 2.1"
