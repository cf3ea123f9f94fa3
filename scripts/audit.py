"""Audit of the pinned dependencies against the published advisories, by pip-audit.

    make audit

What could not be looked up is counted and makes the exit status 2: silence is no good news. 1: an advisory applies.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


def verdict(found: dict[str, Any]) -> tuple[list[str], int]:
    """Lines for a person, and the exit status, of what pip-audit wrote as JSON."""
    asked = found["dependencies"]
    skipped = [one["name"] for one in asked if "skip_reason" in one]
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no release yet'}"
        for one in asked
        for flaw in one.get("vulns", ())
    ]
    status = 1 if lines else 2 if skipped else 0
    looked_up = len(asked) - len(skipped)
    lines.append(f"{looked_up} of {len(asked)} pinned packages were looked up, {len(lines)} advisories.")
    if skipped:
        lines.append(f"Of the other {len(skipped)} nothing is known; the first is {skipped[0]}. Is the index reached?")
    return lines, status


def main() -> int:
    """Run pip-audit over constraints.txt; the exit status."""
    command = ["-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip", "--format", "json"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        print(f"pip-audit could not look anything up: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return 2
    lines, status = verdict(json.loads(done.stdout))
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
