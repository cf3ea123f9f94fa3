"""Words and progress bars of `curate` in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from textwrap import shorten

from vlm_lit.curation.run import ProgressBar
from vlm_lit.errors import printable


@contextmanager
def shown_bar(what: str, total: int | None) -> Iterator[ProgressBar]:
    """A bar on a terminal; elsewhere a line, so that a log says how far it came."""
    from tqdm import tqdm

    if not sys.stderr.isatty():
        print(f"{what}{f': {total:,}' if total is not None else ''}", file=sys.stderr, flush=True)
    with tqdm(desc=what, total=total, disable=None, unit="", mininterval=0.2, dynamic_ncols=True) as bar:
        yield bar


def as_text(counts: Mapping[str, object]) -> str:
    """The counts, a line each."""
    rejected, splits, answers = counts["rejected"], counts["splits"], counts["answers"]
    duplicates, warnings = counts["duplicates"], counts["warnings"]
    assert isinstance(rejected, Mapping) and isinstance(splits, Mapping) and isinstance(answers, Mapping)  # noqa: PT018
    assert isinstance(duplicates, Mapping) and isinstance(warnings, list)  # noqa: PT018
    lines = [
        f"{counts['read']:,} read = {counts['kept']:,} kept + {counts['merged']:,} merged + "
        f"{sum(rejected.values()):,} rejected"
    ]
    lines += [f"  rejected, {code}: {count:,}" for code, count in sorted(rejected.items(), key=lambda one: -one[1])]
    lines.append(", ".join(f"{split} {count:,}" for split, count in splits.items()))
    lines.append(
        f"pictures: {duplicates['exact_duplicates']:,} in sets of exact_duplicates, {duplicates['near_duplicates']:,} "
        f"in sets of near_duplicates; across the splits {counts['duplicates_across_splits']:,}"
    )
    lines.append(f"contradictions: {counts['contradictions']:,}")
    for split, prior in answers.items():
        common = shorten(next(iter(prior["most_common"])), 40, placeholder=" ...")
        lines.append(
            f"{split}: always answering {common!r} is right in {100 * prior['majority']:.1f} %, each question's most "
            f"common answer in {100 * prior['majority_by_question']:.1f} %"
        )
    return printable("\n".join([*lines, *(f"warning: {words}" for words in warnings)]), lines=True)
