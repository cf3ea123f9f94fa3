"""Tests of the upload: whole, private where it must be, failures explained without showing a token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import Hub, serving
from vlm_lit.commands.upload import check_upload, upload
from vlm_lit.errors import ConfigError

TOKEN = "hf_" + "s3cret" * 5
ENVIRONMENT = {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running hub, and a login there."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with serving(Hub(accepts=TOKEN)) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Something to upload."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text("---\nlibrary_name: transformers\n---\n# a\n")
    (tmp_path / "model" / "config.json").write_text("{}")
    return tmp_path / "model"


def test_uploading_again_is_a_new_commit(folder: Path, hub: Hub) -> None:
    upload(folder, "me/tuned", private=False, endpoint=hub.address)
    assert hub.repos == {"me/tuned": False}
    (folder / "config.json").write_text('{"a": 1}')
    upload(folder, "me/tuned", private=False, endpoint=hub.address)
    assert hub.files["config.json"] == b'{"a": 1}'


def test_a_public_repository_takes_nothing_private(folder: Path, hub: Hub) -> None:
    hub.repos["me/tuned"] = False
    with pytest.raises(ConfigError, match=r"me/tuned exists on the hub and is public\. .* whole in"):
        upload(folder, "me/tuned", private=True, endpoint=hub.address)
    assert hub.files == {}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("unknown token", r"does not accept your login for this \(status 401\)"),
        ("read-only token", r"does not accept your login for this \(status 403\).*hf upload me/tuned"),
        ("logged out", "needs a login on the hub, and there is none. Run: hf auth login"),
        ("offline", "HF_HUB_OFFLINE says not to use it"),
        ("no hub", "The hub cannot be reached: .* Check the network and HF_ENDPOINT"),
    ],
)
def test_why_an_upload_fails_is_said_without_the_token(
    state: str, says: str, folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = hub.address
    if state == "unknown token":
        hub.accepts = "hf_other"
    elif state == "read-only token":
        hub.reads_only = True
    elif state == "logged out":
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    elif state == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    else:
        address = "http://127.0.0.1:9"
    if state != "read-only token":  # which `whoami` cannot tell
        with pytest.raises(ConfigError, match=says):
            check_upload("me/tuned", endpoint=address)
    later = {"logged out": "does not accept your login", "offline": "The hub cannot be reached"}.get(state, says)
    with pytest.raises(ConfigError, match=later) as refused:
        upload(folder, "me/tuned", private=False, endpoint=address)
    assert TOKEN not in str(refused.value)
