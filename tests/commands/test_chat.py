"""Tests of `chat`: the answers of `test`, over several turns, beside the base, and what it cannot do."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import tiny_models
from tests.support.refusals import edited, refusal
from vlm_lit.cli import main
from vlm_lit.commands.merge_run import merge_run
from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.errors import ConfigError, RecordError, printable
from vlm_lit.schema import IMAGE, Conversation, EvaluationBatch, Record
from vlm_lit.training.chat_session import ChatSession
from vlm_lit.training.opened_model import OpenedModel, open_model

Capture = pytest.CaptureFixture[str]
Config = Callable[..., Path]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that lives as long as this file's tests."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def finished(config: Config, kept: Path) -> Path:
    """A run that was trained hard enough to answer otherwise than its base, and tested, once for this file."""
    run = kept / "run"
    if not run.exists():
        path = config(model={"learning_rate": 0.02}, data={"system": "Answer shortly.", "prompt": None})
        assert main(["fit", "--config", str(path), "--run_dir", str(run)]) == 0
        assert main(["test", "--config", str(run / "config.yaml"), "--ckpt_path", "last"]) == 0
    return run


@pytest.fixture
def opened(finished: Path) -> OpenedModel:
    return open_model(str(finished))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a picture.png"
    tiny_models.picture(3).save(path)
    return path


def predictions(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]


def newest(run: Path) -> str:
    return str(max((run / "checkpoints").glob("*.ckpt")))


def piped(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def said(capsys: Capture, *arguments: str) -> list[str]:
    assert main(["chat", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


# As `test` answers --------------------------------------------------------------------------------------------------


def test_every_answer_is_that_of_test(finished: Path, opened: OpenedModel) -> None:
    judged = predictions(finished)
    assert len(judged) == 6
    for row in judged:
        (spoken,) = ChatSession(opened, images=[Path(row["image"])]).ask(row["question"])
        assert spoken.reply.text == row["prediction"], row["id"]
    assert len({row["prediction"] for row in judged}) > 1


def test_a_run_in_mixed_precision_computes_in_it(config: Config) -> None:
    bf16 = {"precision": "bf16"}
    parts = {
        "vision_tower": bf16,
        "projector": {"precision": "fp32", "training": "full"},
        "language_model": {"precision": "nf4", "training": "lora"},
        "head": bf16,
    }
    path = config(model={"parts": parts, "learning_rate": 0.02}, trainer={"precision": "bf16-mixed"})
    run = path.with_name("run")
    assert main(["fit", "--config", str(path)]) == 0
    assert main(["test", "--config", str(path), "--ckpt_path", "last"]) == 0
    opened = open_model(str(run))
    assert opened.settings.bf16
    for row in predictions(run):
        (spoken,) = ChatSession(opened, images=[Path(row["image"])]).ask(row["question"])
        assert spoken.reply.text == row["prediction"], row["id"]


def test_answers_are_held_to_the_schema_that_the_run_holds_them_to(
    finished: Path, tmp_path: Path, picture: Path
) -> None:
    schema, run = tmp_path / "schema.json", Path(shutil.copytree(finished, tmp_path / "run"))
    schema.write_text(json.dumps({"enum": ["a lamp", "a tool"]}), encoding="utf-8")
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    config["model"]["init_args"] |= {"answer_schema": str(schema), "max_new_tokens": 40}
    (run / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (spoken,) = ChatSession(open_model(str(run)), images=[picture]).ask("what is it?")
    assert json.loads(spoken.reply.text) in ("a lamp", "a tool")


def test_the_command_prints_that_answer(finished: Path, capsys: Capture) -> None:
    row = predictions(finished)[1]
    arguments = [str(finished), "--image", row["image"], "--question", row["question"]]
    assert "\n".join(said(capsys, *arguments)) == row["prediction"]


def test_the_base_answers_as_the_untrained_one_does(finished: Path, opened: OpenedModel, tmp_path: Path) -> None:
    settings = yaml.safe_load((finished / "config.yaml").read_text())
    settings["run_dir"] = str(tmp_path / "untrained")
    path = tmp_path / "untrained.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert main(["test", "--config", str(path)]) == 0
    tuned, base = predictions(finished), predictions(tmp_path / "untrained")
    for trained, untrained in zip(tuned, base, strict=True):
        session = ChatSession(opened, compare=True, images=[Path(trained["image"])])
        spoken = {one.by: one.reply.text for one in session.ask(trained["question"])}
        assert spoken == {"tuned": trained["prediction"], "base": untrained["prediction"]}
    assert [row["prediction"] for row in tuned] != [row["prediction"] for row in base]


def test_a_runs_prompt_and_system_message_are_used(opened: OpenedModel, picture: Path) -> None:
    prompt = "{question}\nOne word."
    session = ChatSession(replace(opened, settings=replace(opened.settings, prompt=prompt)), images=[picture])
    assert session.system == "Answer shortly."
    record = Record(
        file="x", index=0, fields={"question": "what is it?", "image": picture.name}, image_root=picture.parent
    )
    expected = to_conversation(record, prompt=prompt, system="Answer shortly.", requires_answer=False)
    asked = asked_of(session, "what is it?")[0]
    assert asked.turns == expected.turns
    assert [image.path for image in asked.images] == [image.path for image in expected.images]


class Listening:
    """A session's collator that remembers what it was given."""

    def __init__(self, session: ChatSession) -> None:
        self.collator, self.heard = session._collator, list[Conversation]()
        session._collator = self  # type: ignore[assignment]

    def __call__(self, conversations: Sequence[Conversation]) -> EvaluationBatch | RecordError:
        self.heard += conversations
        return self.collator(conversations)


def asked_of(session: ChatSession, *questions: str) -> list[Conversation]:
    """The conversations that the model is given for some questions."""
    listening = Listening(session)
    for question in questions:
        session.ask(question)
    return listening.heard


# Several turns ------------------------------------------------------------------------------------------------------


def test_what_was_said_before_stands_before_the_next_question(opened: OpenedModel, picture: Path) -> None:
    session = ChatSession(opened, compare=True, images=[picture])
    first = {one.by: one.reply.text for one in session.ask("what colour is it?")}
    of_tuned, of_base = asked_of(session, "and now?")
    for heard, name in ((of_tuned, "tuned"), (of_base, "base")):
        assert [turn.role for turn in heard.turns] == ["system", "user", "assistant", "user"]
        assert heard.turns[1].content == (IMAGE, "what colour is it?")
        assert heard.turns[2].text == first[name]
        assert heard.turns[3].content == ("and now?",)
    session.reset()
    assert [turn.role for turn in asked_of(session, "and now?")[0].turns] == ["system", "user"]


def test_a_second_turn_is_what_a_data_set_with_that_history_gets(
    finished: Path, opened: OpenedModel, tmp_path: Path
) -> None:
    row = predictions(finished)[2]
    session = ChatSession(opened, images=[Path(row["image"])])
    before = session.ask(row["question"])[0].reply.text
    after = session.ask("what colour is lamp 1?")[0].reply.text
    talk = [
        ("human", "<image>\n" + row["question"]),
        ("gpt", before),
        ("human", "what colour is lamp 1?"),
        ("gpt", "x"),
    ]
    record = {"id": "0", "image": row["image"], "conversations": [{"from": who, "value": text} for who, text in talk]}
    (tmp_path / "talk.json").write_text(json.dumps([record]))
    options = ["--data.test.path", str(tmp_path / "talk.json"), "--data.test.image_root", "/"]
    options += ["--run_dir", str(tmp_path / "talk"), "--ckpt_path", newest(finished)]
    assert main(["test", "--config", str(finished / "config.yaml"), *options]) == 0
    assert predictions(tmp_path / "talk")[0]["prediction"] == after


def test_an_image_placeholder_in_a_question_is_text(opened: OpenedModel, picture: Path) -> None:
    (heard,) = asked_of(ChatSession(opened, images=[picture]), "is <image> a word?")
    assert heard.turns[-1].content == (IMAGE, "is <image> a word?")


def test_what_fails_is_forgotten(opened: OpenedModel, picture: Path) -> None:
    session = ChatSession(opened, images=[picture])
    with pytest.raises(RecordError, match=r"the conversation has .* tokens and max_length is"):
        session.ask("word " * 3000)
    assert len(asked_of(session, "what is it?")[0].turns) == 2
    with pytest.raises(ConfigError, match=r"There is no picture nothing\.png\."):
        session.show([picture, Path("nothing.png")])
    assert len(asked_of(session, "and now?")[0].turns) == 4
    other = picture.with_name("other.png")
    tiny_models.picture(9).save(other)
    session.show([other, picture])
    (heard,) = asked_of(session, "what are these?")
    assert [image.path for image in heard.images] == [other, picture]
    assert heard.turns[-1].content == (IMAGE, IMAGE, "what are these?")


# What it talks with -------------------------------------------------------------------------------------------------


def test_a_merged_model_answers(finished: Path, tmp_path: Path, picture: Path, capsys: Capture) -> None:
    merge_run(finished, tmp_path / "merged", dtype="fp32")
    arguments = [str(tmp_path / "merged"), "--image", str(picture), "--question", "what is it?"]
    assert said(capsys, *arguments, "--max_new_tokens", "3")
    assert "is a whole model: there is no base to compare it with" in refusal(capsys, "chat", *arguments, "--compare")
    assert "so --base has no effect" in refusal(capsys, "chat", *arguments, "--base", "x")


def test_an_adapter_alone_answers_and_says_what_is_not_known(
    finished: Path, tmp_path: Path, picture: Path, capsys: Capture
) -> None:
    shutil.copytree(finished / "adapter", tmp_path / "moved" / "adapter")
    assert main(["chat", str(tmp_path / "moved"), "--image", str(picture), "--question", "what is it?"]) == 0
    assert "holds no config.yaml: system message, prompt and longest answer are not known" in capsys.readouterr().err


def test_a_prompt_that_needs_more_than_a_question_is_told_of(
    finished: Path, tmp_path: Path, picture: Path, capsys: Capture
) -> None:
    copied = Path(shutil.copytree(finished, tmp_path / "copied"))
    edited(copied / "config.yaml", {"data.init_args.prompt": "{question} of {maker|nobody}"})
    assert main(["chat", str(copied), "--image", str(picture), "--question", "what is it?"]) == 0
    assert "the run's prompt takes more than a question" in capsys.readouterr().err


# Through a pipe and at a terminal


def test_questions_through_a_pipe(
    finished: Path, picture: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = "what colour is lamp 0?"
    piped(monkeypatch, question, "", "/reset", question, f"/image {picture}", question, "/quit", "never asked")
    lines = said(capsys, str(finished), "--image", str(picture))
    assert len(lines) == 3
    assert len(set(lines)) == 1


def test_a_line_that_cannot_be_done_is_told_of_and_passed_over(
    finished: Path, picture: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(monkeypatch, "/imag x", "/image", "/image nothing.png", "/image 'x", "what is it?")
    assert main(["chat", str(finished), "--image", str(picture)]) == 2
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 1
    errors = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith("error: /imag is no command. /image FILE shows another picture")
    assert errors[1] == "error: /image needs a file: /image FILE."
    assert errors[2].startswith("error: There is no picture nothing.png.")
    assert errors[3].startswith("error: /image 'x: No closing quotation.")


def test_an_answer_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\td\x9b", lines=True) == "a\\x1b[2Jb\nc\td\\x9b"


@pytest.mark.slow
def test_at_a_terminal(finished: Path, picture: Path) -> None:
    screen = typed(
        [str(finished), "--image", str(picture), "--compare"], "what is it?\n", "/reset\n", "/nothing\n", "\x04"
    )
    assert f"with the adapter in {finished / 'adapter'}, on cpu." in screen
    assert "Picture: a picture.png. /image FILE shows another picture" in screen
    assert "\n> " in screen
    assert "\ntuned: " in screen
    assert "\nbase:  " in screen
    assert "A new conversation. Picture: a picture.png." in screen
    assert "error: /nothing is no command." in screen
    assert "Traceback" not in screen


def typed(arguments: list[str], *keys: str) -> str:
    """What stands on a terminal when `keys` are pressed, each after a prompt has come."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "vlm_lit", "chat", *arguments]
    program = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "dumb"})
    os.close(theirs)
    screen, waiting = "", list(keys)
    while True:
        try:
            chunk = os.read(ours, 4096).decode() if select.select([ours], [], [], 300)[0] else ""
        except OSError:  # the other end is closed
            chunk = ""
        if not chunk:
            break
        screen += chunk.replace("\r", "")
        if screen.endswith("\n> ") and waiting:
            os.write(ours, waiting.pop(0).encode())
    assert program.wait(60) == 0
    os.close(ours)
    return screen


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "RUN must be given."),
        (["runs/mien"], "There is no run and no model at runs/mien. Name the directory of a finished run"),
        (["./mine"], "There is no run and no model at ./mine."),
        (["runs"], "runs holds no adapter: neither adapter_model.safetensors"),
        (["runs", "--imag", "x"], "Did you mean --image?"),
        (["runs", "--image", "x.png"], "There is no picture x.png. Name a file that is here."),
        (["runs", "--max_new_tokens", "0"], "0 is not a whole number from 1 up"),
    ],
)
def test_what_is_not_there(
    arguments: list[str], says: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert says in refusal(capsys, "chat", *arguments)


def test_a_picture_that_is_none(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "words.png").write_text("words")
    error = refusal(capsys, "chat", str(finished), "--image", str(tmp_path / "words.png"), "--question", "what?")
    assert f"The picture {tmp_path / 'words.png'}: not an image in one of the formats JPEG" in error


def test_another_chat_template_is_refused(
    finished: Path, tiny_llava: Path, picture: Path, tmp_path: Path, capsys: Capture
) -> None:
    base = Path(shutil.copytree(tiny_llava, tmp_path / "base"))
    template = base / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    error = refusal(capsys, "chat", str(finished), "--image", str(picture), "--base", str(base), "--question", "what?")
    assert "is not the one the adapter was trained with" in error
