"""Tests of checkpoints that cannot be loaded, each refused with the sentence that helps."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from huggingface_hub.utils._http import get_session, hf_raise_for_status
from safetensors.torch import load_file

from tests.support import loaded, tiny_models
from vlm_lit.errors import ConfigError
from vlm_lit.models.load_errors import why
from vlm_lit.models.loading import load_base, load_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_models.save_llava(tmp_path / "checkpoint")


def refused(folder: Path, attention: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_base(
            str(folder),
            parts=loaded.settings(language_model=loaded.FP32, projector=loaded.FP32),
            quantization=loaded.QUANTIZATION,
            attention=attention,
        )
    return str(caught.value)


def test_pickled_weights_alone(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "has its weights in pytorch_model.bin only, a pickle file" in refused(folder)


def test_weights_that_are_stored_quantized(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    assert "stored quantized already (method awq). Name the 16-bit checkpoint" in refused(folder)


def test_git_lfs_pointers(folder: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (folder / "model.safetensors").write_text(pointer)
    assert "model.safetensors is one" in refused(folder)
    assert "`git lfs pull`" in refused(folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="its package may be there")
def test_flash_attention_without_its_package(folder: Path) -> None:
    assert "flash-attn" in refused(folder, attention="flash_attention_2")


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "RepoNotFound", "the hub has no such repository, or it is private"),
        (403, "GatedRepo", "it is gated. Accept its terms at https://huggingface.co/some/model, then log in"),
        (404, "RevisionNotFound", "it has no such revision"),
    ],
)
def test_what_a_hub_says(status: int, code: str, said: str) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        response = get_session().get(f"http://127.0.0.1:{server.server_port}/api/models/some/model", timeout=9)
        with pytest.raises(Exception) as caught:
            hf_raise_for_status(response)
    finally:
        server.shutdown()
        server.server_close()
    wrapped = OSError("You are told something on two pages.")
    wrapped.__cause__ = caught.value
    assert said in why(wrapped, "some/model")


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="is not a folder here"):
        load_config("./nowhere")
