"""Upload of a finished model to the hub, with the login that the user already has.

The token is huggingface_hub's to read and send. It is never an argument here, never written and never shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from huggingface_hub import HfApi, get_token, is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from vlm_lit.errors import ConfigError

# The library under huggingface_hub that speaks HTTP has changed with its versions; this is the root of its errors.
_HTTPError: Final[type[Exception]] = HfHubHTTPError.__mro__[1]
_ERRORS: Final = (_HTTPError, OSError, ValueError)


def check_upload(repo: str, *, endpoint: str | None = None) -> None:
    """Find out whether an upload can work at all, before anything long is done for it.

    Args:
        repo: `organisation/name` on the hub.
        endpoint: address of the hub; null takes huggingface_hub's, which HF_ENDPOINT sets.

    Raises:
        ConfigError: the name is none, the hub is not to be reached, or nobody is logged in there.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(f"--push {repo!r} is no name on the hub: {error}") from error
    if "/" not in repo:
        raise ConfigError(f"--push {repo!r} names no owner. Write organisation/name, or your user name before it.")
    if is_offline_mode():
        raise ConfigError("--push needs the hub, and HF_HUB_OFFLINE says not to use it. Unset it, or leave --push out.")
    if get_token() is None:
        raise ConfigError("--push needs a login on the hub, and there is none. Run: hf auth login")
    try:
        HfApi(endpoint=endpoint).whoami()
    except _ERRORS as error:
        raise _explained(error, "Nothing was merged") from error


def upload(folder: Path, repo: str, *, private: bool, endpoint: str | None = None) -> str:
    """Upload `folder` as the model `repo`, which is made where it does not exist; the address of the commit.

    Args:
        folder: what to upload, all of it.
        repo: `organisation/name` on the hub.
        private: make the repository visible to its owners only, and refuse one that is not.
        endpoint: address of the hub; null takes huggingface_hub's.

    Raises:
        ConfigError: the hub refuses or is not reached, or an existing repository is public where it must not be.
    """
    api = HfApi(endpoint=endpoint)
    try:
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise ConfigError(
                f"{repo} exists on the hub and is public. Name another with --push, or make that one private first. "
                f"The merged model is whole in {folder}."
            )
        commit = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload a merged model")
    except _ERRORS as error:
        if isinstance(error, ConfigError):
            raise
        kept = f"The merged model is whole in {folder}; to upload it later: hf upload {repo} {folder}"
        raise _explained(error, kept) from error
    return str(commit.commit_url)


def _explained(error: Exception, kept: str) -> ConfigError:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status in (401, 403):
        return ConfigError(
            f"The hub does not accept your login for this (status {status}). Check that its token may write there, or "
            f"log in again with: hf auth login. {kept}."
        )
    if status is None and not isinstance(error, ValueError):
        return ConfigError(f"The hub cannot be reached: {error}. Check the network and HF_ENDPOINT. {kept}.")
    reason = str(error).strip().split("\n")[0]
    return ConfigError(f"The hub refuses: {reason.rstrip('.')}. {kept}.")
