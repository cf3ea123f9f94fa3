"""Tables and plot of the result files, for README.md here and in vlm_lit/studies.

    python scripts/benchmark/plots.py

Reads `results/*.json` and writes between the README's markers; nothing is typed in by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import comparing
from gpu_kernels import KINDS
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE: Final = Path(__file__).parent
BEGIN, END = "<!-- {}: written by plots.py -->", "<!-- end of {} -->"
NAMES: Final = {"ours": "vlm_lit", "trl": "TRL", "trl_supervised_head": "TRL, head on supervised positions alone"}
REFERENCES: Final = {"ours": "stored", "ours_live": "live"}
"""Where each side of ours has its reference from in the benchmark of pairs."""
Found = dict[str, Any]


def goals_table(found: Found) -> str:
    """A row for each workload and opponent: how fast, how much memory, how alike the losses."""
    head = (
        "| workload | against | micro-batch, ours and theirs | samples/s, ours and theirs | speed | tensors | resident "
        "| losses within |"
    )
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *(row for r in found["results"] for row in _rows(r))])


def _rows(result: Found) -> Iterator[str]:
    for compared in result["comparisons"]:
        ours, theirs = (_median_speed(result, side) for side in ("ours", compared["opponent"]))
        rows = [comparing.rows_of(result, side) for side in ("ours", compared["opponent"])]
        yield (
            f"| {result['workload']['says']} | {NAMES[compared['opponent']]} | {rows[0]}, {rows[1]} "
            f"| {ours:.2f}, {theirs:.2f} | {_range(compared['speed_ratio'], compared['speed_ratios'])} "
            f"| {compared['memory_ratio']:.2f}x | {_range(compared['resident_ratio'], compared['resident_ratios'])} "
            f"| {compared['largest_relative_loss_difference']:.0e} |"
        )


def pairs_table(found: Found) -> str:
    """The same of pairs, for each of the ways in which ours asks its reference."""
    head = "| workload | reference | against | pairs/s, ours and theirs | speed | processor | tensors | losses within |"
    rows = [_pairs_row(result, compared) for result in found["results"] for compared in result["comparisons"]]
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *rows])


def _pairs_row(result: Found, compared: Found) -> str:
    ours, theirs = (_median_speed(result, compared[side]) for side in ("own", "opponent"))
    features = ", features too" if compared["own"] == "ours" and result["feature_cache"] else ""
    tensors = "not counted" if compared["memory_ratio"] is None else f"{compared['memory_ratio']:.2f}x"
    return (
        f"| {result['workload']['says']} | {REFERENCES[compared['own']]}{features} | {NAMES[compared['opponent']]} "
        f"| {ours:.2f}, {theirs:.2f} | {_range(compared['speed_ratio'], compared['speed_ratios'])} "
        f"| {_range(compared['processor_ratio'], compared['processor_ratios'])} | {tensors} "
        f"| {compared['largest_relative_loss_difference']:.0e} |"
    )


def _range(middle: float, every: Sequence[float]) -> str:
    return f"{middle:.2f}x ({min(every):.2f} to {max(every):.2f})"


def _median_speed(result: Found, side: str) -> float:
    speeds = sorted(float(run["samples_per_second"]) for run in result["runs"] if run["side"] == side)
    return speeds[len(speeds) // 2]


def gpu_table(found: Found) -> str:
    """A row for each shape, side and micro-batch at either end: one row, and the most that fit."""
    head = "| shape | side | micro-batch | samples/s | tokens/s | share of the bf16 peak | peak memory, GiB | time |"
    rows = [row for result in found["results"] for side in ("ours", "trl") for row in _gpu_rows(result, side)]
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *rows, "", *_kernel_table(found)])


def _kernel_table(found: Found) -> Iterator[str]:
    """Of each step and test whose kernels were noted, how busy the device was and what with."""
    yield "| shape | of | device busy | " + " | ".join(kind.replace("_", "-") for kind in KINDS) + " |"
    yield "|---" * (3 + len(KINDS)) + "|"
    for result in found["results"]:
        for side in ("ours", "trl"):
            for stage in result.get(side, {}).get("micro_batches", []):
                yield from _kernel_row(result, f"a step, {NAMES[side]}, micro-batch {stage['micro_batch']}", stage)
        answers = result.get("answers", {})
        yield from _kernel_row(result, f"answers, {answers.get('questions_per_second', 0):.0f} questions/s", answers)


def _kernel_row(result: Found, of: str, noted: Found) -> Iterator[str]:
    if "kernels" in noted:
        seconds = noted["kernels"]["seconds"]
        shares = " | ".join(f"{seconds[kind] / sum(seconds.values()):.0%}" for kind in KINDS)
        yield f"| {result['shape']} | {of} | {noted['kernels']['busy']:.0%} | {shares} |"


def _gpu_rows(result: Found, side: str) -> Iterator[str]:
    stages = result.get(side, {}).get("micro_batches", [])
    for stage in stages[:1] + stages[1:][-1:]:
        shares = ", ".join(f"{name.replace('_', ' ')} {share:.0%}" for name, share in stage["shares"].items())
        yield (
            f"| {result['shape']} | {NAMES[side]} | {stage['micro_batch']} | {stage['samples_per_second']:.1f} "
            f"| {stage['tokens_per_second']:.0f} | {stage['peak_share']:.0%} | {stage['peak_bytes'] / 2**30:.1f} "
            f"| {shares} |"
        )


def tower_table(found: Found) -> str:
    """A row for the speed of training a tower's last blocks with what lies below kept on disk, against without."""
    compared, workload = found["comparison"], found["workload"]
    kept, live = (_median_speed(found, side) for side in (compared["own"], compared["opponent"]))
    return "\n".join(
        [
            "| workload | blocks trained | samples/s, kept and live | speed | processor | resident | losses within |",
            "|---|---|---|---|---|---|---|",
            f"| {workload['says']} | {found['last_layers']} | {kept:.2f}, {live:.2f} "
            f"| {_range(compared['speed_ratio'], compared['speed_ratios'])} "
            f"| {_range(compared['processor_ratio'], compared['processor_ratios'])} "
            f"| {compared['resident_ratio']:.2f}x | {compared['largest_relative_loss_difference']:.0e} |",
        ]
    )


_WHERE: Final = ("products", "attention", "unpacking", "element_wise", "optimizer", "data", "python")


def where_table(found: Found) -> str:
    """A row for each workload, side and state of the code: what it multiplies, and each kind of work's share."""
    columns = ["workload", "side", "code", "GFLOP", *(kind.replace("_", "-") for kind in _WHERE), "computed / needed"]
    rows = [_where_row(result) for result in found["results"]]
    return "\n".join([f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *rows])


def _where_row(result: Found) -> str:
    shares = " | ".join(f"{result['shares'][kind]:.1%}" for kind in _WHERE)
    pairs = f"{result['pairs'] / result['seen'] / 64:.2f}" if "seen" in result else ""
    named = f"{result['workload']['says']} | {NAMES[result['side']]} | {result['stage']}"
    return f"| {named} | {result['flops'] / 1e9:,.0f} | {shares} | {pairs} |"


def products_table(found: Found) -> str:
    """A row for each weight, a column for each number of tokens: how many times as fast oneDNN is as MKL."""
    tokens = list(dict.fromkeys(one["tokens"] for one in found["products"]))
    head = "| weight, outputs x inputs | " + " | ".join(f"{n} token{'' if n == 1 else 's'}" for n in tokens) + " |"
    ratios: dict[str, list[str]] = {}
    for one in found["products"]:
        direction = "forward" if one["direction"] == "forward" else "gradient of the inputs"
        ratios.setdefault(f"{one['outputs']} x {one['inputs']}, {direction}", []).append(f"{one['ratio']:.2f}")
    rows = [f"| {of} | {' | '.join(every)} |" for of, every in ratios.items()]
    return "\n".join([head, "|---" * (len(tokens) + 1) + "|", *rows])


_WORKLOADS: Final = {
    "short": "{questions} questions an image, {tokens} tokens an answer",
    "long": "1 question an image, answers of {mean:.0f} tokens in the mean and {most} at most, {batch} at a time",
    "apart": "the same in rows that are not packed, answers of {mean:.0f} tokens and {most} at most, {batch} at a time",
    "choices": "1 question an image, not packed, each answer from a list of {choices}",
}


def generation_table(found: Found) -> str:
    """A row for each workload and number of key heads: what two ways of answering take."""
    head = (
        "| answers | heads of queries, of keys | slow way, fast way | times as fast, by processor time | same answers |"
    )
    return "\n".join([head, "|---" * 5 + "|", *(_generation_row(result) for result in found["results"])])


def _generation_row(result: Found) -> str:
    settings = result["settings"]
    says = _WORKLOADS[result["workload"]].format(**settings, **result["answer_tokens"])
    return (
        f"| {says} | 8, {settings['kv_heads']} | {', '.join(result['ways'])} "
        f"| {_range(result['processor_ratio'], result['processor_ratios'])} "
        f"| {'yes' if result['identical'] else 'no'} |"
    )


def about(found: Found) -> str:
    """Where and with what a file was measured, in a line."""
    device, versions = found["device"], found["versions"]
    threads = found.get("threads", device["cores"])
    machine = device.get("gpu") or f"{device['cpu']}, {threads} thread{'' if threads == 1 else 's'}"
    listed = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "trl") if name in versions)
    commits = list(dict.fromkeys(one.get("commit", found["commit"])[:10] for one in found.get("results", [found])))
    at = ("commit " if len(commits) == 1 else "commits ") + ", ".join(commits)
    return f"Measured {found['date'][:10]} at {at} on {machine} ({listed})."


def growth_figure(found: Found) -> Figure:
    """Samples a second against questions an image, a panel for each number of image tokens."""
    points = [(r["workload"]["image_tokens"], r["workload"]["questions"], r) for r in found["results"]]
    tokens = sorted({t for t, _, _ in points})
    figure = Figure(figsize=(3.4 * len(tokens), 3.2), layout="constrained")
    panels = figure.subplots(1, len(tokens), sharey=True, squeeze=False)[0]
    for panel, count in zip(panels, tokens, strict=True):
        _panel(panel, sorted((q, r) for t, q, r in points if t == count))
        panel.set_title(f"{count} image tokens", fontsize=10)
    panels[0].set_ylabel("samples a second")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def _panel(panel: Axes, points: Sequence[tuple[int, Found]]) -> None:
    questions = [q for q, _ in points]
    sides = dict.fromkeys(run["side"] for _, result in points for run in result["runs"])
    for side, style in zip(sides, ("o-", "s--", "^:"), strict=False):
        panel.plot(questions, [_median_speed(result, side) for _, result in points], style, label=NAMES[side])
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xticks(questions, [str(q) for q in questions])
    panel.minorticks_off()
    panel.set_xlabel("questions an image")
    panel.grid(alpha=0.3)


def between(text: str, name: str, new: str) -> str:
    """`text` with what stands between a name's markers replaced.

    Raises:
        ValueError: the markers are not there.
    """
    begin, end = BEGIN.format(name), END.format(name)
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"There is no {begin} ... {end}.")
    return f"{before}{begin}\n{new}\n{end}{after}"


def studies_table(kept: Sequence[Found]) -> str:
    """A row for each claim of each study: what was compared, by how much they differ, the verdict."""
    head = ["| study | claim | difference, points of VQA accuracy | verdict |", "|---|---|---|---|"]
    return "\n".join([*head, *(row for found in kept for row in _claim_rows(found["report"]))])


def _claim_rows(report: Found) -> Iterator[str]:
    for claim in report["claims"]:
        low, high = claim["difference"]["ci95"]
        middle = claim["difference"]["mean"]
        sides = " minus ".join(", ".join(claim[side].values()) for side in ("better", "than"))
        yield (
            f"| `{report['study']}`, {len(claim['seeds'])} seeds | {claim['says'].rstrip('.')} ({claim['source']}) "
            f"| {sides}: {100 * middle:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] | {claim['verdict']} |"
        )


def read(name: str) -> Found | None:
    """A result file, if there is one."""
    path = HERE / "results" / name
    found: Found | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return found


def main() -> None:
    """Write the tables and the plot of the files that are there."""
    readme = HERE / "README.md"
    text = readme.read_text(encoding="utf-8")
    tables = (
        ("goals", "against_trl.json", goals_table),
        ("pairs", "against_trl_dpo.json", pairs_table),
        ("gpu", "gpu.json", gpu_table),
        ("where", "where.json", where_table),
        ("generation", "generation.json", generation_table),
        ("tower", "tower_blocks.json", tower_table),
        ("products", "products.json", products_table),
    )
    for name, file, table in tables:
        if (found := read(file)) is not None:
            text = between(text, name, f"{table(found)}\n\n{about(found)}")
    if (found := read("growth.json")) is not None:
        growth_figure(found).savefig(HERE / "results" / "growth.png", dpi=120, metadata={"Software": None})
        text = between(text, "growth", f"![samples a second](results/growth.png)\n\n{about(found)}")
    readme.write_text(text, encoding="utf-8")
    _write_studies([json.loads(path.read_text()) for path in sorted((HERE / "results" / "studies").glob("*.json"))])


def _write_studies(kept: Sequence[Found]) -> None:
    if not kept:
        return
    readme = HERE.parents[1] / "vlm_lit" / "studies" / "README.md"
    new = "\n\n".join([studies_table(kept), *sorted({about(found) for found in kept})])
    readme.write_text(between(readme.read_text(encoding="utf-8"), "studies", new), encoding="utf-8")


if __name__ == "__main__":
    main()
