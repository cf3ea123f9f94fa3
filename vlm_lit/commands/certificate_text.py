"""Words of `certify`: what a certificate holds, and what came of a check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from vlm_lit.commands.certificate_check import CheckedCertificate
from vlm_lit.commands.verbs import program
from vlm_lit.errors import listed
from vlm_lit.training.certifying.certificate import Certificate, SplitDigests
from vlm_lit.training.certifying.differences import OF_THE_PLACE, OF_THE_RUN
from vlm_lit.training.certifying.replaying import Replay

_WIDTH: Final = 11


def written(certificate: Certificate, path: Path) -> str:
    """What stands in a certificate that was just written, and how it is checked."""
    lines = [f"Certificate written to {path}"]
    lines += [_line(section, words) for section, words in _contents(certificate).items()]
    unknown = [name for name in ("machine", "versions", "code") if not getattr(certificate, name)]
    if unknown:
        lines.append(
            f"Not noted by the version that made the run: {', '.join(unknown)}. A check compares losses, not bits."
        )
    kept, adapter = certificate.weights.steps, certificate.weights.adapter_step
    if not any(step < later for step in kept for later in (*kept, adapter or 0)):
        lines.append(
            "No checkpoint before the last one was kept, so a check does the first steps again, not later ones."
        )
    lines.append(f"Check it: {program()} certify --check {path}")
    return "\n".join(lines)


def _contents(certificate: Certificate) -> dict[str, str]:
    weights, files = certificate.weights, certificate.base.get("weights_sha256") or {}
    splits = [("train", certificate.train), *([("val", certificate.val)] if certificate.val is not None else [])]
    steps = f"{len(weights.names)} parameters after step {listed([str(step) for step in weights.steps])}"
    adapter = f"the adapter of step {weights.adapter_step}" if weights.adapter is not None else "no adapter"
    base = f"{len(files)} files of weights" if isinstance(files, dict) and files else certificate.base.get("commit")
    return {
        "data": "; ".join(f"{name} {_counted(split)}" for name, split in splits),
        "base": str(base or "no digest: a base on the hub is named by its commit, which is not known"),
        "processor": "its settings, chat template and tokenizer",
        "settings": f"{len(certificate.settings)} that change numbers",
        "course": f"{certificate.course.get('total_steps')} optimizer steps",
        "code": f"{max(0, len(certificate.code) - 1)} files" if certificate.code else "not known",
        "versions": ", ".join(f"{name} {number}" for name, number in certificate.versions.items()) or "not known",
        "machine": _machine(certificate),
        "weights": f"{steps if weights.steps else 'no checkpoint'}, {adapter}",
        "losses": f"of {len(certificate.losses)} steps",
    }


def _counted(split: SplitDigests) -> str:
    return f"{len(split.ids):,} records with {len(split.pictures):,} pictures"


def _machine(certificate: Certificate) -> str:
    names = ("accelerator", "processor", "instructions", "threads", "processes")
    return (
        ", ".join(f"{name} {certificate.machine[name]}" for name in names if name in certificate.machine) or "not known"
    )


def _line(section: str, words: str) -> str:
    return f"  {section:<{_WIDTH}}{words}"


# A check -------------------------------------------------------------------------------------------------------------


def as_text(found: CheckedCertificate) -> str:
    """What came of a check, a line a section."""
    lines = [f"{found.path} (version {found.kept.version})"]
    contents = _contents(found.here)
    for section in (*OF_THE_RUN, *OF_THE_PLACE):
        other = [one.words for one in found.deviations if one.section == section]
        if section in OF_THE_PLACE and not getattr(found.kept, section):
            lines.append(_line(section, "not known of the run"))
        elif section == "weights" and not found.here.weights.steps and found.here.weights.adapter is None:
            lines.append(_line(section, "none here to compare"))
        else:
            lines += [_line(section, f"DIFFERENT  {words}") for words in other]
            lines += [] if other else [_line(section, f"the same   {contents[section]}")]
    lines += [_line("replay", line) for line in _replayed(found)]
    return "\n".join([*lines, verdict(found)]) + "\n"


def verdict(found: CheckedCertificate) -> str:
    """One sentence on the whole check."""
    if not found.holds:
        sections = [one.section for one in found.deviations if one.section in OF_THE_RUN]
        if not sections and found.replay is not None and not found.replay.compared:
            return "NOT shown to be the certified run: nothing is known of the steps done again. Take more by --steps."
        where = ", ".join(dict.fromkeys(sections)) or "the steps done again"
        return f"NOT the certified run: {where}."
    if found.replay is None:
        return "All that lies here is as certified. No step was done again."
    if found.replay.same_bits:
        return "The certified run, to the last bit of the steps done again."
    return f"The certified run within the tolerance of {found.replay.tolerance:g}; bits differ."


def _replayed(found: CheckedCertificate) -> Iterator[str]:
    if found.replay is None:
        yield f"none: {found.unreplayed}"
        return
    replay = found.replay
    begun = f"the checkpoint of step {replay.start}" if replay.start else "the start"
    how = f"losses within {replay.tolerance:g} ({'; '.join(replay.inexact)})" if replay.inexact else "bit by bit"
    yield f"steps {replay.start + 1} to {replay.end} from {begun}, compared {how}"
    if not replay.compared:
        yield "nothing to compare with: no loss and no weights of these steps are known; take more by --steps"
    yield from _steps(replay)


def _steps(replay: Replay) -> Iterator[str]:
    if replay.losses:
        other = [loss for loss in replay.losses if loss.difference]
        words = f"{len(replay.losses)} losses are equal to the bit"
        if other:
            first = other[0]
            words = (
                f"{len(other)} of {len(replay.losses)} losses differ, by at most {replay.largest:.2e} of their size; "
                f"first at step {first.step} (was {first.was!r}, is {first.now!r})"
            )
        yield words
    for step, names in replay.weights.items():
        yield f"weights after step {step}: " + (
            f"{len(names)} parameters differ, first {names[0]}" if names else "equal to the bit"
        )
    if replay.adapter is not None:
        yield f"the adapter's file: {'the same' if replay.adapter else 'another'}"


def as_json(found: CheckedCertificate) -> dict[str, Any]:
    """What came of a check, for another program."""
    replay = found.replay
    return {
        "certificate": str(found.path),
        "holds": found.holds,
        "verdict": verdict(found),
        "differences": [{"section": one.section, "what": one.words} for one in found.deviations],
        "replay": None
        if replay is None
        else {
            "start": replay.start,
            "end": replay.end,
            "compared": "losses" if replay.inexact else "bits",
            "because": list(replay.inexact),
            "tolerance": replay.tolerance,
            "losses": [{"step": loss.step, "was": loss.was, "now": loss.now} for loss in replay.losses],
            "weights": {str(step): names for step, names in replay.weights.items()},
            "adapter": replay.adapter,
            "same_bits": replay.same_bits,
        },
        "unreplayed": found.unreplayed or None,
    }
