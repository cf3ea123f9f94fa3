"""The terminal form of a budget, as tables of text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from vlm_lit.models.stored_bytes import Holding
from vlm_lit.preflight.budget.gpus import GPUS, MOST_ROWS, RESERVE, most_rows
from vlm_lit.preflight.budget.needs import Needs, StepNeeds
from vlm_lit.preflight.budget.report import Budget
from vlm_lit.preflight.budget.run_budget import RunBudget

ROWS: Final = (1, 2, 4, 8)
"""The micro-batches that are written out."""

_WIDTH: Final = 110
_GIB: Final = 2**30
_EACH: Final = {"nf4": 0.5, "fp4": 0.5, "int8": 1, "uint8": 1, "bfloat16": 2, "float16": 2, "float32": 4, "int64": 8}
_ORDER: Final = ("quantized", "constants", "frozen", "trained")
_UNITS: Final = f"""GiB are 2^30 bytes. A GPU's GB are read as 10^9 bytes, the least they can mean, less
{RESERVE / _GIB:.1f} GiB for the CUDA context, cuBLAS and holes between blocks: 24 GB leave
{GPUS[0].usable / _GIB:.1f} GiB for tensors. Sizes are counted tensor by tensor on the config's shapes, with the
kernels that a CPU would choose; nothing was run on a GPU."""


def as_text(budget: Budget) -> str:
    """The budget as text."""
    apart = {"Logits, GiB at their peak": _logits(budget), **pair_sections(budget)}
    cached = budget.picture.cached
    features = f"{_megabytes(1000 * cached)}" if cached is not None else "not known before images are read"
    such = "" if budget.picture.assumed is None else " as large as the one assumed"
    disk = f"vision features of 1,000 images{such}, if cached: {features}"
    notes = [_uncounted(budget)] if budget.uncounted is not None else []
    return sections(budget, {"Run": _run(budget)}, apart=apart, disk=disk, notes=notes)


def sections(
    budget: RunBudget,
    first: Mapping[str, str],
    *,
    apart: Mapping[str, str] = MappingProxyType({}),
    disk: str = "",
    notes: Sequence[str] = (),
) -> str:
    """A budget as text.

    Args:
        budget: what is known.
        first: by their titles the sections that come first.
        apart: those about what is measured apart.
        disk: a line about what else is kept on disk.
        notes: what else is to be said, a sentence or several each.
    """
    said = {
        **first,
        "Arithmetic": "\n".join(_arithmetic(needs) for needs in budget.needs),
        "Memory by purpose, GiB": _purposes(budget),
        "Memory by micro-batch, GiB": _micro_batches(budget),
        "Largest micro-batch (rows) by GPU, with / without activation checkpointing": _gpus(budget),
        **apart,
        "Disk": "\n".join([_disk(budget), *filter(None, [disk])]),
        "Notes": _notes(budget, notes),
    }
    return "\n".join(f"{title}\n{textwrap.indent(body, '  ')}\n" for title, body in said.items() if body)


def pair_sections(budget: Budget) -> dict[str, str]:
    """What is said of pairs, by titles; nothing of a run that has none."""
    pairs = budget.pairs
    if pairs is None:
        return {}
    share = "share a row" if pairs.apart is None else f"have a row each ({pairs.apart})"
    third = "" if pairs.corrupt is None else ", and the chosen one has another behind its corrupted picture"
    said = [
        f"The answers of a pair {share}{third}: a pair takes {pairs.rows} row{'s' * (pairs.rows != 1)}, which a "
        "micro-batch has at least."
    ]
    if pairs.reference is None:
        said.append("No loss compares with a reference.")
    else:
        when = "in every step, ahead of" if pairs.reference == "live" else "once, before the first step, instead of in"
        kept = "a copy of all trained weights" if pairs.from_adapter else "what PEFT keeps of parts trained in full"
        said.append(
            f"The reference is asked {when} the pass that trains; it keeps no activations. Beside the base it is "
            f"{kept}, which is counted{' with the frozen weights' * (not pairs.from_adapter)}."
        )
    if pairs.reference == "stored":
        said.append("Its log-probabilities take about 0.1 MB of disk for 1,000 pairs.")
    lines = [
        (
            f"{rows}: a pass of the reference",
            [gib(n.reference(max(rows, n.least))) for n in budget.needs if n.reference],
        )
        for rows in ROWS
    ]
    found = {"Pairs": "\n".join(textwrap.fill(line, _WIDTH) for line in said)}
    if pairs.reference is not None and budget.needs:
        found["Reference by micro-batch, GiB at its peak (within the totals above)"] = table(budget, "", lines)
    return found


def _run(budget: Budget) -> str:
    row = budget.row
    attention = budget.needs[0].attention if budget.needs else "?"
    assumed = "" if budget.picture.assumed is None else f" ({budget.picture.assumed})"
    each = f" of {budget.picture.tokens:,} tokens" if budget.picture.tokens is not None else ""
    said = (
        f"{budget.model_id} ({budget.model_type}), {budget.precision}, {attention} attention, activation checkpointing "
        f"{'on' if budget.checkpointing else 'off'}. Rows of {row.length:,} tokens ({row.source}), {row.supervised:,} "
        f"of them supervised, {row.images} image{'s' * (row.images != 1)}{each} in each{assumed}. * is the run as "
        f"configured.{ranks_said(budget)}"
    )
    return textwrap.fill(said, _WIDTH)


def _name(needs: StepNeeds) -> str:
    return f"{needs.recipe.name}*" if needs.recipe.configured else needs.recipe.name


def gib(size: float) -> str:
    """Bytes in GiB with one decimal; what rounds to nothing is said to be something."""
    if size < 0:
        return f"-{gib(-size)}".replace("-<", "> -")
    return "<0.1" if 0 < size < 0.05 * _GIB else f"{size / _GIB:.1f}"


def _arithmetic(needs: StepNeeds) -> str:
    lines = [_holding(h) for h in sorted(needs.held, key=lambda h: _ORDER.index(h.purpose)) if h.size >= 2**20]
    trained = needs.stored("trained")
    lines += [
        (f"{trained // 4:,} gradients", "x 4 bytes", gib(needs.gradients)),
        (f"{needs.optimizer.name} states of {trained // 4:,} weights", "", gib(needs.optimizer.states)),
    ]
    return f"{_name(needs)}\n" + "\n".join(f"  {line}" for line in _aligned(lines))


def _holding(holding: Holding) -> tuple[str, str, str]:
    what = {"quantized": "weights", "constants": "constants", "frozen": "frozen weights", "trained": "trained weights"}
    said = f"{holding.part or 'other'}: {holding.count:,} {what[holding.purpose]} in {holding.stored}"
    return said, f"x {_EACH[holding.stored]} bytes", gib(holding.size)


def _purposes(budget: RunBudget) -> str:
    copied = any(_copies(needs) for needs in budget.needs)
    lines: list[tuple[str, Callable[[StepNeeds], int]]] = [
        ("weights, quantized", lambda n: n.stored("quantized")),
        ("quantization constants", lambda n: n.stored("constants")),
        ("weights, frozen", lambda n: n.stored("frozen")),
        ("weights, trained", lambda n: n.stored("trained")),
        ("gradients", lambda n: n.gradients),
        ("optimizer states", lambda n: n.optimizer.states),
        *([("the reference's copy of what is trained", _copies)] if copied else []),
        *(_held_elsewhere(budget) if budget.plan.strategy == "frozen_sharded" else []),
        ("there between two steps", lambda n: n.resident),
        ("a step of the optimizer adds", lambda n: n.optimizer.step),
    ]
    return table(budget, "", [(name, [gib(size(needs)) for needs in budget.needs]) for name, size in lines])


def _held_elsewhere(budget: RunBudget) -> list[tuple[str, Callable[[StepNeeds], int]]]:
    """What a GPU of several has not, and what it has for a moment: the largest layer is twice there as it comes in."""
    return [
        (f"of the frozen, on the other {budget.plan.world - 1} GPUs", lambda n: -n.ranks.elsewhere),
        ("a layer put together adds (in the peaks)", lambda n: n.ranks.gathered),
    ]


def ranks_said(budget: RunBudget) -> str:
    """A sentence about a run's several GPUs; nothing of one."""
    plan = budget.plan
    if plan.world == 1:
        return ""
    held = (
        "the frozen weights of the decoder layers are split over them, and all else is whole on each"
        if plan.strategy == "frozen_sharded"
        else "each holds all of the model"
    )
    return f" {plan.world} GPUs ({plan.strategy}): {held}. Memory is that of one of them."


def _copies(needs: StepNeeds) -> int:
    return needs.copies if isinstance(needs, Needs) else 0


def _micro_batches(budget: RunBudget) -> str:
    blocks = []
    for on in (budget.checkpointing, not budget.checkpointing):
        lines = []
        for rows in ROWS:
            lines += [
                (f"{rows}: activations kept", [gib(n.kept(rows, checkpointing=on)) for n in budget.needs]),
                (f"{rows}: total at the peak", [gib(n.total(rows, checkpointing=on)) for n in budget.needs]),
            ]
        blocks.append(table(budget, f"{'with' if on else 'without'} checkpointing", lines))
    return "\n".join(blocks)


def _gpus(budget: RunBudget) -> str:
    lines = []
    for index, gpu in enumerate(GPUS):
        most = [[rows_said(fitting(n, index, checkpointing=on)) for on in (True, False)] for n in budget.needs]
        lines.append((f"{gpu.gigabytes} GB: {gpu.names}", [" / ".join(pair) for pair in most]))
    return table(budget, "", lines)


def fitting(needs: StepNeeds, index: int, *, checkpointing: bool) -> int:
    """The largest micro-batch on the GPUs of `GPUS[index]`."""
    return most_rows(lambda rows: needs.total(rows, checkpointing=checkpointing), GPUS[index])


def rows_said(rows: int) -> str:
    """A largest micro-batch in a cell of a table."""
    return "-" if rows == 0 else f"{MOST_ROWS}+" if rows >= MOST_ROWS else str(rows)


def _logits(budget: Budget) -> str:
    if not budget.needs:
        return ""
    needs = next((n for n in budget.needs if n.recipe.configured), budget.needs[0])
    lines = [("micro-batch", [str(rows) for rows in ROWS])]
    lines += [("on supervised tokens alone, in chunks (this package)", [gib(needs.head(rows)) for rows in ROWS])]
    lines += [("on whole rows (a plain head)", [gib(needs.plain_head(rows)) for rows in ROWS])]
    return "\n".join(_aligned([(name, *cells) for name, cells in lines]))


def _disk(budget: RunBudget) -> str:
    lines = [
        ("adapter/", [_megabytes(needs.adapter) for needs in budget.needs]),
        ("a checkpoint", [_megabytes(needs.checkpoint) for needs in budget.needs]),
    ]
    return table(budget, "MB (10^6 bytes)", lines)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f}"


def _notes(budget: RunBudget, more: Sequence[str]) -> str:
    notes = [_UNITS, *(f"{refused.recipe.name}: {refused.reason}" for refused in budget.refused), *more]
    words = (" ".join(note.split()) for note in notes)
    return "\n".join(textwrap.fill(note, _WIDTH, initial_indent="- ", subsequent_indent="  ") for note in words)


def _uncounted(budget: Budget) -> str:
    """What the totals lack where pictures could not be shown to the model."""
    parts = budget.needs[0].recipe.parts
    said = f"What vision tower and projector take of a picture {budget.uncounted}. It is not counted. "
    if budget.cross_attention:
        said += "Nor are the language model's cross-attention layers, so the activations are too few. "
    if parts.vision_tower.training != "frozen":
        return said + "The tower is trained here, so its activations come on top of the totals."
    return said + "A frozen tower keeps nothing for the backward pass."


def table(budget: RunBudget, corner: str, lines: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table with a column a recipe.

    Args:
        budget: has them.
        corner: what stands at its upper left.
        lines: the name of each line, and its cells.
    """
    header = (corner, *(_name(needs) for needs in budget.needs))
    return "\n".join(_aligned([header, *((name, *cells) for name, cells in lines)]))


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
