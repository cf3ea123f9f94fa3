"""Tests of small files that a run keeps for itself: a damaged one is a sentence, or counts as not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.refusals import run_dir
from vlm_lit.cli import main
from vlm_lit.curation.previous import SUMMARY, same_rules
from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.user_cache import Cached
from vlm_lit.schema import Record
from vlm_lit.training.pairing.answers_file import AnswersFile
from vlm_lit.training.skipped_records import MANIFEST, write_skipped

DEEP = "[" * 100_000
FIRST = json.dumps({"sampled_with": {"seed": 1}})
ANSWER = {"id": "a", "sample": 0, "prompt": "p", "answer": "x"}


@pytest.mark.parametrize(
    "text",
    [
        b"\n",
        b"\xff\n",
        DEEP.encode() + b"\n",
        b'{"sampled_with": 7}\n',
        f"{FIRST}\n{DEEP}\n".encode(),
        f"{FIRST}\n{json.dumps({**ANSWER, 'sample': 'x'})}\n".encode(),
        f"{FIRST}\n{json.dumps({**ANSWER, 'id': [1]})}\n".encode(),
    ],
)
def test_sampled_answers(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_bytes(text)
    with pytest.raises(ConfigError, match=r"answers\.jsonl"):
        AnswersFile(tmp_path / "answers.jsonl", {"seed": 1}).read()


@pytest.mark.parametrize("line", ["{", "7", "{}", DEEP])
def test_records_that_were_left_out(line: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(line + "\n")
    with pytest.raises(ConfigError, match=rf"{MANIFEST}, line 1 names no split"):
        write_skipped(tmp_path, {})


@pytest.mark.parametrize("text", ["{", DEEP, '{"settings": 7}'])
def test_what_counts_as_not_there(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / SUMMARY).write_text(text)
    assert not same_rules(tmp_path, {"seed": 1})
    monkeypatch.setenv("VLM_LIT_CACHE", str(tmp_path))
    cached = Cached("rows", {"a": 1})
    cached.path.parent.mkdir(parents=True)
    cached.path.write_text(DEEP)
    assert cached.read() is None


def test_a_history_that_is_nested_without_end() -> None:
    record = Record(fields={"query": "a?", "response": "b", "history": DEEP}, file=Path("a"), index=0)
    with pytest.raises(RecordError):
        to_conversation(record, requires_answer=True)


ALIASES = "a0: &a0 [1]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(24))


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("text", ["[", "7", ALIASES])
def test_the_config_of_an_earlier_evaluation(text: str, config: Callable[..., Path]) -> None:
    """Its results are kept aside as those of other weights or settings are."""
    path = config()
    assert main(["test", "--config", str(path)]) == 0
    run = run_dir(path)
    (run / "config.test.yaml").write_text(text)
    assert main(["test", "--config", str(path)]) == 0
    assert len(list(run.glob("**/results.json"))) == 2
