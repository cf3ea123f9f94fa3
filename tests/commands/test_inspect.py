"""Tests of `inspect`: what would be trained, in three forms, and the exit status of a wrong run."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout, suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import small_data, tiny_models
from tests.support.refusals import edited, refusal, run_dir
from vlm_lit.cli import main
from vlm_lit.commands.inspect_text import printable
from vlm_lit.data.datamodule import ConversationDataModule

Config = Callable[..., Path]

CONTROL = "not <image> but </s> and <s>"
MARKUP = "<b>bold</b> & <script>alert(1)</script>"


def inspected(capsys: pytest.CaptureFixture[str], config: Path, *more: str, status: int = 0) -> dict[str, Any]:
    """The report as JSON, which has to be all that stands on standard output."""
    capsys.readouterr()
    assert main(["inspect", "--config", str(config), "--format", "json", *more]) == status
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def shown(capsys: pytest.CaptureFixture[str], config: Path, *more: str, status: int = 0) -> str:
    """What the terminal form says."""
    capsys.readouterr()
    assert main(["inspect", "--config", str(config), *more]) == status
    return capsys.readouterr().out


def talk(folder: Path, *answers: str, question: str = "what is this?") -> dict[str, object]:
    """A data set of one conversation an answer, each about a picture, as the settings of a data module."""
    tiny_models.picture(1).save(folder / "p.png")
    rows = [
        {
            "id": f"talk{i}",
            "image": "p.png",
            "conversations": [
                {"from": "human", "value": f"<image>\n{question}"},
                {"from": "gpt", "value": answer},
            ],
        }
        for i, answer in enumerate(answers)
    ]
    path = folder / "talks.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return {"train": {"path": str(path)}, "val": None}


def test_the_json_has_exactly_the_promised_shape(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = config()
    report = inspected(capsys, path, "--conversations", "2")
    assert list(report) == ["parts", "conversations", "dropped", "gradient_flow"]
    assert [p["part"] for p in report["parts"]] == ["vision_tower", "projector", "language_model", "head"]
    keys = {"part", "parameters", "trainable", "precision", "modules_4bit", "lr"}
    assert all(set(part) == keys for part in report["parts"])
    by_name = {part["part"]: part for part in report["parts"]}
    assert by_name["language_model"]["modules_4bit"] == 14
    assert by_name["language_model"]["lr"] == 1e-3
    assert by_name["vision_tower"]["trainable"] == 0
    assert by_name["vision_tower"]["lr"] is None
    assert report["dropped"] == []
    assert report["gradient_flow"] == {"unmoved_trainable": [], "moved_frozen": []}
    first, second = report["conversations"]
    assert first == {
        "id": "train0",
        "tokens": first["tokens"],
        "supervised": ["red", "blue blue"],
        "end_of_turn": [True, True],
        "image_placeholders": 4,
        "image_features": 4,
    }
    assert second["supervised"] == ["blue blue", "yes yes yes"]
    assert second["tokens"] > first["tokens"] > 20
    assert not run_dir(path).exists()


def test_overrides_are_those_of_fit(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--model.init_args.parts.projector.training=frozen", "--data.init_args.train.limit", "1")
    report = inspected(capsys, config(), *more)
    assert [part["trainable"] > 0 for part in report["parts"]] == [False, False, True, False]
    assert [c["id"] for c in report["conversations"]] == ["train0"]


def test_typed_control_strings_stay_the_words_they_are(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(data=talk(tmp_path, CONTROL, "red", question="is </s> said, or <s>?"))
    typed, plain = inspected(capsys, path)["conversations"]
    assert typed["supervised"] == [CONTROL]
    assert typed["end_of_turn"] == [True]
    assert typed["image_placeholders"] == plain["image_placeholders"] == 4


def test_a_dropped_record_is_listed_with_its_reason(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(data={**talk(tmp_path, "red", "blue " * 80, "no"), "max_length": 60, "over_length": "drop"})
    report = inspected(capsys, path)
    assert [c["id"] for c in report["conversations"]] == ["talk0", "talk2"]
    (dropped,) = report["dropped"]
    assert dropped["id"] == "talk1"
    assert re.fullmatch(r"\d+ tokens, and max_length is 60 \(over_length: drop\)", dropped["reason"])
    assert "talk1 dropped: " in shown(capsys, path)


def test_a_trimmed_record_is_shown_as_it_is_trained_on(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = talk(tmp_path, "red", question="what is this? " + "and this " * 40)
    path = config(data={**data, "max_length": 60, "over_length": "trim_text"})
    report = inspected(capsys, path)
    assert report["dropped"] == []
    assert report["conversations"][0]["tokens"] <= 60
    assert re.search(r"talk0 changed: \d+ tokens, .*: \d+ tokens after trimming its longest", shown(capsys, path))


def test_where_a_long_record_stops_the_run_the_report_comes_first(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = talk(tmp_path, "red", "blue " * 80)
    tokens = inspected(capsys, config(data=data))["conversations"][1]["tokens"]
    path = config(data={**data, "max_length": tokens - 1})  # its words alone are found to fit by the check ahead
    capsys.readouterr()
    assert main(["inspect", "--config", str(path)]) == 2
    captured = capsys.readouterr()
    assert "talk1 stops the run: " in captured.out
    assert "talk0: " in captured.out
    assert "talks.json, record 1 (id 'talk1'): the conversation has" in captured.err


def test_nothing_left_to_train_on_is_refused(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(data={**talk(tmp_path, "red"), "max_length": 5, "over_length": "drop"})
    error = refusal(capsys, "inspect", "--config", str(path))
    assert "None of the 1 conversations looked at can be trained on. The first: talk0 has" in error


def test_what_fit_refuses_is_refused(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = config()
    assert "learning_rat" in refusal(capsys, "inspect", "--config", str(path), "--model.init_args.learning_rat=1")
    assert "Did you mean --lengths?" in refusal(capsys, "inspect", "--config", str(path), "--length=3")
    assert "is not a whole number" in refusal(capsys, "inspect", "--config", str(path), "--conversations", "0")
    assert "text" in refusal(capsys, "inspect", "--config", str(path), "--format", "yaml")
    assert "does-not-exist" in refusal(
        capsys, "inspect", "--config", str(path), "--model.init_args.model_id=./does-not-exist"
    )


def test_a_part_that_learns_nothing_fails_the_inspection(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    # LLaVA reads its tower one layer before the last, so what lies behind is trainable and idle.
    parts = yaml.safe_load(config().read_text())["model"]["init_args"]["parts"]
    path = edited(
        config(), {"model.init_args.parts": {**parts, "vision_tower": {"precision": "fp32", "training": "full"}}}
    )
    report = inspected(capsys, path, status=1)
    unmoved = report["gradient_flow"]["unmoved_trainable"]
    assert unmoved
    assert all(re.match(r"model\.vision_tower\..*(layers\.2|post_layernorm)", name) for name in unmoved)
    assert "no gradient reaches it" in shown(capsys, path, status=1)


def test_a_processor_that_belongs_to_another_model_is_seen(
    config: Config, tiny_llava: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_llava, other)
    settings = json.loads((other / "processor_config.json").read_text())
    (other / "processor_config.json").write_text(json.dumps({**settings, "num_additional_image_tokens": 3}))
    path = config(model={"model_id": str(other)})
    report = inspected(capsys, path, "--conversations", "1", status=1)
    (conversation,) = report["conversations"]
    assert (conversation["image_placeholders"], conversation["image_features"]) == (6, 4)
    assert len(report["gradient_flow"]["unmoved_trainable"]) == 20
    said = shown(capsys, path, status=1)
    assert "train0: 6 image placeholders among its tokens, but the model gives 4 feature vectors" in said
    assert "no step was made" in said


class Page(HTMLParser):
    """The elements of a page, the pictures' addresses and the text of supervised tokens."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.said: dict[str, str] = {}
        self._kind = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.sources += [value for name in ("src", "href") if (value := given.get(name)) is not None]
        self._kind = given.get("class") or ""

    def handle_data(self, data: str) -> None:
        self.said[self._kind] = self.said.get(self._kind, "") + data


def test_the_page_needs_nothing_else_and_escapes_what_people_wrote(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(data=talk(tmp_path, MARKUP, question=MARKUP))
    target = tmp_path / "pages" / "page.html"
    assert main(["inspect", "--config", str(path), "--format", "html", "--output", str(target)]) == 0
    text = target.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "b" in page.tags  # ours: the id of a conversation
    assert page.said["supervised"].count(MARKUP) == 1
    assert MARKUP in page.said["prompt"]
    assert page.sources == [page.sources[0]]
    assert page.sources[0].startswith("data:image/jpeg;base64,")
    assert "http" not in text
    assert capsys.readouterr().out == ""
    assert not run_dir(path).exists()


def test_without_a_name_the_page_lies_in_the_run_directory(config: Config) -> None:
    path = config()
    assert main(["inspect", "--config", str(path), "--format", "html"]) == 0
    assert [file.name for file in run_dir(path).iterdir()] == ["inspect.html"]


def test_an_output_that_cannot_be_written_is_refused(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    error = refusal(capsys, "inspect", "--config", str(config()), "--output", str(tmp_path / "file" / "a.txt"))
    assert "cannot be written" in error


def test_in_a_terminal_the_supervised_words_are_coloured_unless_refused(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config()
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = in_terminal(path)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = in_terminal(path)
    assert "\x1b[1;32m red\x1b[0m\x1b[1;35m</s>\x1b[0m" in coloured
    assert "\x1b" not in plain
    assert "ASSISTANT:[ red]{</s>}" in plain


def in_terminal(config: Path) -> str:
    """What stands in a terminal after `inspect`."""
    ours, theirs = pty.openpty()
    with ThreadPoolExecutor(1) as reading, open(theirs, "w") as terminal:  # noqa: PTH123 - a descriptor
        seen = reading.submit(_until_closed, ours)
        with redirect_stdout(terminal):
            assert main(["inspect", "--config", str(config), "--conversations", "1"]) == 0
        terminal.close()
        return seen.result().decode().replace("\r\n", "\n")


def _until_closed(terminal: int) -> bytes:
    seen = b""
    with suppress(OSError):  # how Linux says that the other end is closed
        while piece := os.read(terminal, 65536):
            seen += piece
    os.close(terminal)
    return seen


@pytest.mark.slow
def test_a_program_reads_nothing_but_the_report(config: Config) -> None:
    command = [sys.executable, "-m", "vlm_lit", "inspect", "--config", str(config()), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert list(json.loads(done.stdout)) == ["parts", "conversations", "dropped", "gradient_flow"]
    assert done.stdout.isascii()
    assert "Measuring conversations" in done.stderr


def test_what_a_library_prints_does_not_mix_with_the_report(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = ConversationDataModule.setup

    def talkative(self: ConversationDataModule, stage: str) -> None:
        print("opening the data")
        setup(self, stage)

    monkeypatch.setattr(ConversationDataModule, "setup", talkative)
    assert inspected(capsys, config(), "--conversations", "1")["conversations"]


def test_what_would_steer_a_terminal_is_written_out() -> None:
    assert printable("a\x1b[31mb\nc\u202e") == "a\\x1b[31mb\nc\\u202e"


def test_text_without_colour_says_how_much_was_measured(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_data.write_conversations(tmp_path, 30, prefix="many")
    path = config(data={"train": {"path": str(tmp_path / "many.json")}})
    said = shown(capsys, path, "--lengths", "7", "--conversations", "1")
    assert "measured on 7 of 30 conversations, those that training visits first; 0 too long" in said
    assert "All is well" in said
    assert "\x1b" not in said
    assert "measured on all 30 conversations" in shown(capsys, path, "--conversations", "1")


def test_keys_that_are_not_used_are_named_and_lost_input_is_a_problem(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = talk(tmp_path, "red", "blue")
    path = tmp_path / "talks.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    rows[0] |= {"hint": "small", "scan": "q.png"}
    path.write_text(json.dumps(rows), encoding="utf-8")
    report = inspected(capsys, config(data=data), status=1)
    assert [line.rpartition("talks.json: ")[2][:60] for line in report["findings"]] == [
        "keys that nothing is made of: hint (1 of 2).",
        "keys that look like input or answers, and nothing is made of",
    ]
    assert "scan (1 of 2)" in report["findings"][1]
    told = {"train": {"path": str(path), "ignore_keys": ["hint", "scan"]}, "val": None}
    assert "findings" not in inspected(capsys, config(data=told))


def test_what_the_chat_template_moves_is_said(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--config", str(config()), "--conversations", "1"]) == 0
    assert "The chat template writes a turn's pictures before the words" in capsys.readouterr().out
