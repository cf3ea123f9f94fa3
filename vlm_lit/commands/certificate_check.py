"""Check of a certificate: what is here beside what it says, and some steps of its run done again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm_lit.commands.certified_run import CertifiedRun, set_threads
from vlm_lit.commands.early_check import check
from vlm_lit.commands.process_rules import refusing
from vlm_lit.errors import ConfigError
from vlm_lit.training.callbacks.step_checkpoint import FOLDER
from vlm_lit.training.certifying.certificate import Certificate, read_certificate
from vlm_lit.training.certifying.differences import OF_THE_PLACE, OF_THE_RUN, Deviation, deviations
from vlm_lit.training.certifying.replaying import Replay, planned_steps, replay_of


@dataclass(frozen=True, kw_only=True)
class CheckedCertificate:
    """What came of a check.

    Args:
        path: the certificate's file.
        kept: what it says.
        here: the same of what is here.
        deviations: what is not the same.
        replay: the steps that were done again; None where none were.
        unreplayed: why none were.
    """

    path: Path
    kept: Certificate
    here: Certificate
    deviations: tuple[Deviation, ...]
    replay: Replay | None
    unreplayed: str

    @property
    def holds(self) -> bool:
        """Whether it is the run that the certificate is of, as far as that was looked at."""
        of_run = any(found.section in OF_THE_RUN for found in self.deviations)
        return not of_run and (self.replay is None or self.replay.holds)


def checked(
    path: Path, more: Sequence[str], *, start: int | None, steps: int | None, tolerance: float
) -> CheckedCertificate:
    """Compare, and do steps again where all that the run is made of is here.

    Args:
        path: the certificate, or the run directory that holds it.
        more: options of `fit`; with a `--config` among them, they replace the run's own.
        start: the checkpoint to begin from; None chooses.
        steps: how many; None chooses, 0 does none.
        tolerance: largest difference of a loss, as a share of it, where bits cannot be asked for.

    Raises:
        ConfigError: there is no certificate, or no such checkpoint.
    """
    kept = read_certificate(path)
    run = path if path.is_dir() else path.parent
    set_threads(kept)
    with tempfile.TemporaryDirectory() as folder, refusing():
        scratch = Path(folder)
        arguments = [*_config(kept, run, scratch, more), *more]
        check("fit", arguments)
        opened = CertifiedRun(arguments, scratch / "run")
        here = opened.certificate(run)
        found = deviations(kept, here)
        replay, why = None, "not asked for"
        if any(one.section in OF_THE_RUN for one in found):
            why = "what the run was made of is not what is here"
        elif steps != 0:
            replay, why = _replay(opened, kept, here, run, found, start, steps, tolerance)
    return CheckedCertificate(path=path, kept=kept, here=here, deviations=tuple(found), replay=replay, unreplayed=why)


def _config(kept: Certificate, run: Path, scratch: Path, more: Sequence[str]) -> list[str]:
    if any(word.partition("=")[0] in ("--config", "-c") for word in more):
        return []
    config = run / "config.yaml"
    if not config.is_file():
        config = scratch / "config.yaml"
        config.write_text(kept.config, encoding="utf-8")
    return [f"--config={config}"]


def _replay(
    opened: CertifiedRun,
    kept: Certificate,
    here: Certificate,
    run: Path,
    found: Sequence[Deviation],
    start: int | None,
    steps: int | None,
    tolerance: float,
) -> tuple[Replay | None, str]:
    usable = [step for step in here.weights.steps if step in kept.weights.steps]
    if start and start not in usable:
        raise ConfigError(
            f"--start {start}: no checkpoint of step {start} lies in {run / FOLDER} that the certificate knows. There "
            f"are: {', '.join(map(str, usable)) or 'none'}; 0 begins at the start."
        )
    planned = planned_steps(kept, usable, start, steps)
    if not planned:
        return None, f"the run ends at step {planned.stop}: no step comes after it"
    if (why := _other_dropout(kept)) is not None:
        return None, why
    checkpoint = run / FOLDER / f"step-{planned.start:06d}.ckpt" if planned.start else None
    inner = [step for step in kept.weights.steps if planned.start < step <= planned.stop]
    done, adapter = opened.replay(checkpoint, planned.stop, inner)
    inexact = _inexact(kept, found)
    replay = replay_of(kept, done, planned.start, adapter=adapter, inexact=inexact, tolerance=tolerance)
    return replay, ""


def _other_dropout(kept: Certificate) -> str | None:
    """Why a run of several processes cannot be done again by one; None where it can."""
    dropout = kept.settings.get("model.init_args.lora.dropout") or kept.settings.get("model.init_args.dropout")
    if kept.machine.get("processes", 1) != 1 and dropout:
        return f"the run had {kept.machine['processes']} processes, and the dropout of each is another"
    return None


def _inexact(kept: Certificate, found: Sequence[Deviation]) -> list[str]:
    """Why the last bits may differ."""
    reasons = [f"another {one.section}" for one in found if one.section in OF_THE_PLACE]
    reasons += [
        f"unknown {name}"
        for name, known in (("machine", kept.machine), ("versions", kept.versions), ("code", kept.code))
        if not known
    ]
    if kept.settings.get("data.init_args.micro_batch") == "auto":
        reasons.append("micro_batch: auto")
    return reasons
