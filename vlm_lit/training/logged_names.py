"""Names that a run will log, and whether more of each is better, known before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from lightning import LightningModule

from vlm_lit.errors import nearest
from vlm_lit.metrics.rules import Answer, Rule
from vlm_lit.metrics.summary import judged_item, summarised
from vlm_lit.models.families import PART_NAMES
from vlm_lit.training.evaluation import logged_name
from vlm_lit.training.protocols import HasFigures, Judged, Towered, Validated
from vlm_lit.training.ranks import ranks_of

if TYPE_CHECKING:
    from vlm_lit.schema import Conversation

Mode = Literal["min", "max"]

_TRAINING: Final = (
    "loss", "gradient_norm", "micro_batch", "samples_per_second", "tokens_per_second", "data_wait_share",
    "peak_memory_gib", "over_length_dropped", "over_length_changed",
)  # fmt: skip


@dataclass(frozen=True)
class LoggedNames:
    """The names a run logs under, with the better direction of each where it has one.

    `leading` are those that stand for a whole split, `missing` says why names that one would expect are not there.
    """

    modes: dict[str, Mode | None] = field(default_factory=dict)
    leading: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)

    def near(self, name: str) -> str | None:
        """The name that was probably meant."""
        return nearest(name, self.modes) or nearest(f"val/{name}", self.modes)


def logged_names(module: LightningModule, data: Validated, wanted: Iterable[str]) -> LoggedNames:
    """What a `fit` of this module on this data will log.

    Args:
        module: its metrics and parts count; the model need not be loaded.
        data: its data sets are open.
        wanted: the names somebody asks about. Breakdowns and details follow from the validation's records, which are
            looked through only if one of these may be among them.
    """
    modes: dict[str, Mode | None] = dict.fromkeys((f"train/{name}" for name in _TRAINING), None)
    modes["train/loss"] = "min"
    with suppress(RuntimeError):  # it has no trainer yet
        if ranks_of(module.trainer).world > 1:
            modes["train/rank_spread"] = "min"
    if isinstance(module, Towered):
        trained = [part for part in PART_NAMES if module.parts.of(part).training != "frozen"]
        modes |= {f"train/learning_rate/{part}": None for part in trained}
    own = module.own_figures if isinstance(module, HasFigures) else {}
    modes |= {f"train/{name}": mode for name, mode in own.items()}
    if "val" not in data.datasets:
        return LoggedNames(modes, ("train/loss",), {"val/": "there is no validation: set data.init_args.val"})
    leading, missing = ["train/loss"], {}
    if data.validate_by == "answers":
        reason = "data.val holds no pairs" if own else "data.init_args.validate_by is answers: set it to both"
        missing["val/loss"] = reason
    else:
        leading.append("val/loss")
        modes["val/loss"] = "min"
    if data.validate_by == "loss":
        if not own:
            missing["val/"] = "data.init_args.validate_by is loss, so nothing is answered: set it to both"
        modes |= {f"val/{name}": mode for name, mode in own.items()}
    else:
        rules = module.judged_by() if isinstance(module, Judged) else []
        if getattr(module, "answer_from", None) is not None:
            modes[f"val/{module.calibration}"] = "min"
        plain = {*modes, *(f"val/{rule.name}" for rule in rules if rule.is_score)}
        if any(name.startswith("val/") and name not in plain for name in wanted):
            items = data.asked("val")
            asked = [replace(items[i], images=()) for i in range(len(items))]
            if isinstance(module, Judged):
                rules = module.judged_by(one_reference=all(len(c.references) <= 1 for c in asked))
            modes |= _of_records(rules, asked)
        leading += [f"val/{rule.name}" for rule in rules if rule.is_score]
        modes |= {f"val/{rule.name}": _mode(rule) for rule in rules if rule.is_score}
    return LoggedNames(modes, tuple(leading), missing)


def _mode(rule: Rule, detail: str | None = None) -> Mode | None:
    higher = rule.higher_is_better if detail is None else rule.higher_details.get(detail)
    return {True: "max", False: "min", None: None}[higher]


def _of_records(rules: Sequence[Rule], asked: Sequence[Conversation]) -> dict[str, Mode | None]:
    """Every name that judging these conversations gives rise to, found by judging answers that nobody gave."""
    found: dict[str, Mode | None] = {}
    judged = [c for c in asked if c.references]
    for rule in rules if judged else ():
        answers = [Answer(c.references[0], c.references, c.id, c.choices, c.groups) for c in judged]
        items = [judged_item(rule, answer, f"Record {answer.id!r}") for answer in answers]
        values = summarised(rule, items).by_name()
        details = {key for key in values if "/" not in key and key != "overall"}
        for key in values:
            detail = next((name for name in (key, key.rpartition("/")[2]) if name in details), None)
            found[f"val/{logged_name(rule.name, key)}"] = _mode(rule, detail) if rule.is_score else None
    return found
