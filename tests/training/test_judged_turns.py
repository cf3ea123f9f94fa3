"""Tests of judged turns: each answer is judged behind the true turns before it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import small_data
from tests.support.runs import predictions, run_dir, verb
from vlm_lit.data.answers.judged_turns import TurnItems, judged_turn
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.errors import RecordError
from vlm_lit.schema import IMAGE, Conversation, ImageRef, Turn
from vlm_lit.studies.run_files.predictions import read_predictions

Config = Callable[..., Path]


def talk(*words: str, **more: object) -> Conversation:
    turns = [Turn(role="assistant" if i % 2 else "user", content=(word,)) for i, word in enumerate(words)]
    return Conversation(id="a", turns=tuple(turns), images=(), references=("last",), **more)  # type: ignore[arg-type]


def test_an_item_ends_with_its_own_answer() -> None:
    whole = talk("q1", "a1", "q2", "a2", "q3", "a3", choices=("x", "y"), image_id="7")
    first, second, third = (judged_turn(whole, n) for n in (1, 2, 3))
    assert [item.id for item in (first, second, third)] == ["a#1", "a#2", "a#3"]
    assert [item.turn for item in (first, second, third)] == [1, 2, 3]
    assert [t.text for t in second.turns] == ["q1", "a1", "q2", "a2"]
    assert (first.references, second.references, third.references) == (("a1",), ("a2",), ("last",))
    assert (first.choices, third.choices) == ((), ("x", "y"))
    assert {item.image_id for item in (first, second, third)} == {"7"}
    assert [item.continues for item in (first, second, third)] == [True, True, False]


def test_a_single_answer_stays_what_it_is() -> None:
    for whole in (talk("q", "a"), talk("q")):
        assert judged_turn(whole, 1) is whole


def test_a_question_at_the_end_is_asked_as_well_and_a_blank_answer_is_not_judged() -> None:
    whole = talk("q1", " ", "q2")
    assert judged_turn(whole, 1).references == ()
    assert [t.text for t in judged_turn(whole, 2).turns] == ["q1", " ", "q2"]
    assert judged_turn(whole, 2).image_id == judged_turn(whole, 1).image_id == "record a"  # one cluster


def test_an_answer_that_is_not_to_be_learned_is_not_judged_by() -> None:
    whole = talk("q1", "wrong", "q2", "a2", "q3", "a3")
    turns = tuple(replace(turn, supervised=turn.text != "wrong") for turn in whole.turns)
    items = [judged_turn(replace(whole, turns=turns), n) for n in (1, 2, 3)]
    assert [item.references for item in items] == [(), ("a2",), ("last",)]
    assert [t.text for t in items[1].turns] == ["q1", "wrong", "q2", "a2"]


def test_an_item_shows_the_images_up_to_its_question() -> None:
    pictures = tuple(ImageRef(path=Path(f"{i}.png")) for i in range(3))
    turns = (
        Turn(role="user", content=(IMAGE, "q1")),
        Turn(role="assistant", content=("a1",)),
        Turn(role="user", content=(IMAGE, IMAGE, "q2")),
        Turn(role="assistant", content=("a2",)),
    )
    whole = Conversation(id="a", turns=turns, images=pictures)
    assert judged_turn(whole, 1).images == pictures[:1]
    assert judged_turn(whole, 2).images == pictures


def opened(path: Path, check: bool = True) -> ConversationDataset:
    found = open_source(
        SourceSettings(path=str(path)), prompt=None, system=None, requires_answer=False, check_images=check
    )
    assert isinstance(found, ConversationDataset)
    return found


def test_a_data_set_is_asked_turn_by_turn_or_its_last_turns(small: Path) -> None:
    data = opened(small / "train.json")
    every, last = TurnItems(data, "every"), TurnItems(data, "last")
    assert (len(every), len(last)) == (40, 20)
    assert [every[i].id for i in range(3)] == ["train0#1", "train0#2", "train1#1"]
    assert [(last[i].id, last[i].turn) for i in range(2)] == [("train0", 2), ("train1", 2)]
    assert every.image_keys is not None
    assert every.image_keys[0] == every.image_keys[1] != every.image_keys[2]


def test_an_id_that_another_record_has_is_refused(tmp_path: Path) -> None:
    path = small_data.write_conversations(tmp_path, 2)
    rows = json.loads(path.read_text())
    rows[0]["id"], rows[1]["id"], rows[1]["conversations"] = "a", "a#2", rows[1]["conversations"][:2]
    path.write_text(json.dumps(rows))
    with pytest.raises(RecordError, match=r"judged as a#2, which is another record's id\. Rename"):
        TurnItems(opened(path), "every")
    assert len(TurnItems(opened(path), "last")) == 2


@pytest.fixture
def path(config: Config, small: Path) -> Path:
    return config(data={"test": {"path": str(small / "train.json"), "limit": 5}})


def judged(path: Path, *more: str) -> tuple[list[dict[str, object]], dict[str, object]]:
    assert verb("test", path, *more) == 0
    return predictions(run_dir(path)), json.loads((run_dir(path) / "results.json").read_text())


def test_results_and_predictions_say_which_turns_were_judged(path: Path) -> None:
    every, results = judged(path)
    assert [(row["id"], row["turn"]) for row in every[:3]] == [("train0#1", 1), ("train0#2", 2), ("train1#1", 1)]
    assert (results["n"], results["judged_turns"]) == (10, "every")
    assert every[1]["question"] == "what colour is lamp 1?"
    assert every[0]["image_id"] == every[1]["image_id"] == "0"
    assert len(read_predictions(run_dir(path) / "predictions.jsonl")) == 10
    assert (run_dir(path) / "predictions.png").exists()
    last, results = judged(path, "--data.init_args.judged_turns=last")
    assert (results["n"], results["judged_turns"]) == (5, "last")
    assert [(row["id"], row["turn"]) for row in last] == [(f"train{i}", 2) for i in range(5)]
    assert [row["prediction"] for row in last] == [row["prediction"] for row in every[1::2]]


def test_a_data_set_of_single_turns_is_as_it_was(config: Config) -> None:
    rows, results = judged(config())
    assert "turn" not in rows[0]
    assert "judged_turns" not in results
    assert rows[0]["id"] == "val0"


def test_predict_answers_the_last_turn(path: Path, small: Path) -> None:
    source = f"--data.init_args.predict.path={small / 'train.json'}"
    assert verb("predict", path, source, "--data.init_args.predict.limit=2") == 0
    written = read_predictions(run_dir(path) / "predict_predictions.jsonl")
    assert [row.id for row in written] == ["train0", "train1"]


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("answers", [None, ["red", "blue", "yes yes yes"]])
def test_equality_7_for_conversations(path: Path, tmp_path: Path, answers: list[str] | None) -> None:
    # Items of one conversation share a row with its image, and those of others with the same picture.
    rows = json.loads(Path(judged_file(tmp_path)).read_text())
    assert len({row["image"] for row in rows}) == 2
    source = [f"--data.init_args.test.path={judged_file(tmp_path)}"]
    source += [f"--model.init_args.answer_from={json.dumps(answers)}"] if answers else []
    packed, _ = judged(path, *source)
    alone, _ = judged(path, *source, "--data.init_args.packing=false", "--data.init_args.eval_batch=1")
    assert len(packed) == 12
    for one, other in zip(packed, alone, strict=True):
        sure, other_sure = one.pop("confidence", None), other.pop("confidence", None)
        assert one == other
        assert sure == (other_sure if other_sure is None else pytest.approx(other_sure, rel=1e-4))


def judged_file(folder: Path) -> Path:
    """Four conversations of three turns, two about each of two pictures."""
    path = small_data.write_conversations(folder / "talks", 4, turns=3)
    rows = json.loads(path.read_text())
    for i, row in enumerate(rows):
        row["image"], row["image_id"] = f"images/{i // 2}.png", str(i // 2)
    path.write_text(json.dumps(rows))
    return path


def test_a_prompt_holds_the_true_turns_before_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlm_lit.data.rows.masking import Transcript

    seen: dict[str, str] = {}
    render = Transcript.render

    def kept(self: Transcript, conversation: Conversation, *, for_generation: bool = False) -> object:
        found = render(self, conversation, for_generation=for_generation)
        seen[conversation.id] = found.text
        return found

    monkeypatch.setattr(Transcript, "render", kept)
    rows, _ = judged(path)
    true, said = rows[2]["references"], rows[2]["prediction"]
    assert isinstance(true, list)
    assert isinstance(said, str)
    text = seen["train1#2"]
    assert true[0] in text
    assert said not in text.replace(true[0], "")
    assert text.rstrip().endswith(seen["train1#1"].rstrip()[-6:])  # where the assistant is to speak


@pytest.mark.slow
def test_blind_controls_go_item_by_item(path: Path) -> None:
    for kind in ("blank", "shuffle", "drop"):
        rows, results = judged(path, f"--data.init_args.blind={kind}")
        assert len(rows) == results["n"] == 10
