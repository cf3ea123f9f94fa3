"""Flags of turns and of records that say which answers are learned from.

OpenAI writes `weight` (0 or 1), ms-swift `loss`, axolotl `train` or `training`, others `train_on_turn`, `trainable`,
`supervised` or `learn`; some files have a list `loss_mask`, an entry a turn. An answer that is not learned from stays
in the prompt of the next, its end of turn unsupervised as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from vlm_lit.data.conversations.refusals import refusal, shown
from vlm_lit.data.conversations.slots import WrittenTurn
from vlm_lit.schema import Record, Role

FLAGS: Final = ("weight", "loss", "train", "training", "train_on_turn", "trainable", "supervised", "learn")
MASKS: Final = ("loss_mask",)
UNSUPPORTED: Final = ("training_detail", "train_detail", "loss_scale", "loss_weight", "masks")

_REMEDY: Final = "Write 1 or true, 0 or false; or name the key in ignore_keys to learn from every answer."


def flag_of(record: Record, entry: Mapping[str, object], role: Role, what: str) -> bool:
    """Whether a turn's flags let it be learned from; true without any.

    Raises:
        RecordError: a flag that is neither yes nor no, two that differ, or one on a turn that is no assistant's.
    """
    found = {key: _yes(record, key, entry[key], what) for key in FLAGS if entry.get(key) is not None}
    for key in UNSUPPORTED:
        if entry.get(key) not in (None, [], {}):
            remedy = f"Mark whole turns by train: true or false, or name {key} in ignore_keys."
            raise refusal(record, f"{what} has {key}, which is not supported", remedy=remedy, code="turn_flag")
    if len(set(found.values())) > 1:
        problem = f"{what} has {' and '.join(found)}, which differ"
        raise refusal(record, problem, remedy="Keep one of them.", code="turn_flag")
    if role != "assistant" and True in found.values():
        problem = f"{what}, by the {role}, is to be learned from ({next(iter(found))})"
        remedy = "Only an assistant's turns are; take the flag out, or name its key in ignore_keys."
        raise refusal(record, problem, remedy=remedy, code="turn_flag")
    return all(found.values())


def with_record_flags(record: Record, written: Sequence[WrittenTurn]) -> list[WrittenTurn]:
    """The turns after the flags of the record itself.

    Raises:
        RecordError: a flag that is neither yes nor no, or a mask that does not fit the turns.
    """
    flags = {key: _yes(record, key, value, "it") for key in FLAGS if (value := record.fields.get(key)) is not None}
    if not all(flags.values()):
        named = next(key for key, flag in flags.items() if not flag)
        remedy = f"Take the record out, or name {named} in ignore_keys to learn from it."
        raise refusal(record, f"{named} says that nothing of it is learned from", remedy=remedy, code="turn_flag")
    turns = list(written)
    for key in MASKS:
        mask = record.fields.get(key)
        if mask is not None and mask != []:
            turns = _masked(record, key, mask, turns)
    return turns


def _masked(record: Record, key: str, mask: object, turns: Sequence[WrittenTurn]) -> list[WrittenTurn]:
    answers = [turn for turn in turns if turn.role == "assistant"]
    if not isinstance(mask, list | tuple) or len(mask) not in (len(turns), len(answers)):
        count = len(mask) if isinstance(mask, list | tuple) else shown(mask)
        problem = f"{key} has {count} entries where there are {len(turns)} turns"
        raise refusal(record, problem, remedy=f"Give an entry a turn. {_REMEDY}", code="turn_flag")
    given = iter([_yes(record, key, value, "it") for value in mask])
    every = len(mask) == len(turns)
    return [
        replace(turn, supervised=turn.supervised and next(given))
        if turn.role == "assistant"
        else _unlearned(record, key, turn, next(given) if every else False)
        for turn in turns
    ]


def _unlearned(record: Record, key: str, turn: WrittenTurn, flag: bool) -> WrittenTurn:
    if flag:
        problem = f"{key} says that a turn by the {turn.role} is learned from"
        raise refusal(record, problem, remedy=f"Only an assistant's turns are. {_REMEDY}", code="turn_flag")
    return turn


def _yes(record: Record, key: str, value: object, what: str) -> bool:
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false", "0", "1"):
        return value.strip().lower() in ("true", "1")
    raise refusal(record, f"{key} of {what} is {shown(value)}", remedy=_REMEDY, code="turn_flag")
