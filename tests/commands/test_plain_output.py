"""Tests of the door to the terminal: nothing that data hold steers it, and bars and colours stay."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vlm_lit.commands.plain_output import PlainStream

HOSTILE = [
    "\x1b]0;title\x07",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b[2J",
    "\x1b[8m\x1b[10;10H",
    "\x9b2J",
    "\x08\x08",
    "\u202e",
]
WITHIN = ["\x1b[1A\x1b[2K", "\x1b[?25l", "\rall is well", "\x1b[8mhidden", "\x1b[0;08mhidden", "\x1b[31;8;1mhidden"]
"""What a bar may do, or a colour, but no name."""
OF_BARS = ["\r  5%|#   | 1/20", "\x1b[A", "\x1b[32mgreen\x1b[0m", "\r\x1b[2Kstudy", "line\n\tindented", "größer, 赤"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("text", HOSTILE)
def test_what_steers_is_written_out(text: str) -> None:
    for file in (Terminal(), io.StringIO()):
        print(f"a {text} b", file=PlainStream(file))
        shown = file.getvalue()
        assert shown.startswith("a ")
        assert not set("\x07\x08\x9b\u202e") & set(shown)
        assert not any(sequence in shown for sequence in ("\x1b]", "\x1b[2J", "\x1b[10;10H"))


@pytest.mark.parametrize("text", WITHIN)
def test_within_words_the_cursor_stays_and_nothing_is_hidden(text: str) -> None:
    for file in (Terminal(), io.StringIO()):
        print(f"a {text} b", file=PlainStream(file))
        shown = file.getvalue()
        assert shown.startswith("a ")
        assert not set("\r\x1b") & set(shown)


@pytest.mark.parametrize("text", OF_BARS)
def test_bars_and_colours_pass(text: str) -> None:
    file = Terminal()
    PlainStream(file).write(text)
    assert file.getvalue() == text


def test_a_log_in_a_file_has_no_sequence_at_all() -> None:
    file = io.StringIO()
    PlainStream(file).write("\r1/2 \x1b[31mred\x1b[0m\n")
    assert file.getvalue() == "\r1/2 \\x1b[31mred\\x1b[0m\n"


def in_a_terminal(*words: str) -> str:
    """What a command shows whose stdout and stderr are a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "vlm_lit", *words], stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    process.wait()
    os.close(master)
    return shown.decode()


@pytest.mark.slow
def test_names_in_a_strangers_adapter_do_not_steer(tmp_path: Path) -> None:
    name = "base_model.model.model.language_model.layers.0.\x1b]0;evil\x07.lora_{}.weight"
    tensors = {name.format("A"): torch.ones(2, 3), name.format("B"): torch.ones(3, 2)}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = '{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "auto_mapping": {"base_model_class": "%s"}}'
    (tmp_path / "adapter_config.json").write_text(config % "LlavaForConditionalGeneration")
    shown = in_a_terminal("anatomy", str(tmp_path))
    assert "\\x1b]0;evil\\x07" in shown
    assert "\x1b]" not in shown
    assert "\x07" not in shown
