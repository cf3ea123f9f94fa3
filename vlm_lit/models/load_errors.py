"""Reasons why a checkpoint does not load, each in a sentence with the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import PretrainedConfig

from vlm_lit.errors import ConfigError

_POINTER: Final = b"version https://git-lfs.github.com/spec/v1"
_POINTER_BYTES: Final = 1024
_PICKLED: Final = ("pytorch_model*.bin", "model*.bin", "*.pt", "*.pth")


def refuse_pointers(folder: Path) -> None:
    """Refuse a checkpoint folder that was cloned without its large files.

    Raises:
        ConfigError: a file is a Git LFS pointer.
    """
    pointers = sorted(path.name for path in folder.iterdir() if _is_pointer(path)) if folder.is_dir() else []
    if pointers:
        more = f" and {len(pointers) - 1} more files are Git LFS pointers" if len(pointers) > 1 else " is one"
        raise ConfigError(
            f"The checkpoint folder {folder} was cloned without its large files: {pointers[0]}{more} (some lines of "
            "text that stand for the file). Fetch them by `git lfs install` and `git lfs pull` in the folder, or by "
            "`hf download`."
        )


def _is_pointer(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size > _POINTER_BYTES:
        return False
    return path.read_bytes().startswith(_POINTER)


def refuse_stored_weights(folder: Path, auto_class: str) -> None:
    """Refuse a checkpoint folder whose weights are not those that can be trained from.

    Args:
        folder: the checkpoint's; nothing is refused of a hub id.
        auto_class: the transformers class that loads its weights.

    Raises:
        ConfigError: they are pickled, or quantized already.
    """
    if not folder.is_dir():
        return
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if pickled and not any(folder.glob("*.safetensors")):
        raise ConfigError(
            f"The checkpoint folder {folder} has its weights in {pickled[0]} only, a pickle file, which can run a "
            "program when it is read, so it is not read here. If you trust whom it comes from, write it anew once: "
            f"{auto_class}.from_pretrained(folder).save_pretrained(new_folder), with the processor's "
            "files copied beside it; or take a version with .safetensors files."
        )


def refuse_quantized(config: PretrainedConfig, model_id: str) -> None:
    """Refuse a checkpoint that is stored quantized.

    Raises:
        ConfigError: naming the method.
    """
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return
    settings = stored if isinstance(stored, dict) else stored.to_dict()
    method = settings.get("quant_method") or ("bitsandbytes" if settings.get("load_in_4bit") else "unknown")
    raise ConfigError(
        f"model_id {model_id!r} is stored quantized already (method {getattr(method, 'value', method)!s}). Name the "
        "16-bit checkpoint it was made from: each part is quantized as `parts` says while it is loaded."
    )


def why(error: BaseException, model_id: str) -> str:
    """Why a checkpoint does not load, with what helps, ending with a full stop."""
    chain = list(_chain(error))
    text = " ".join(str(link) for link in chain)
    if _any(chain, GatedRepoError) or "access a gated repo" in text:
        return (
            f"it is gated. Accept its terms at https://huggingface.co/{model_id}, then log in here with "
            "`hf auth login`, or set HF_TOKEN."
        )
    if _any(chain, RevisionNotFoundError) or "is not a valid git identifier" in text:
        return "it has no such revision. Set `revision` to one of its branches, tags or commits, or to null."
    if _any(chain, RepositoryNotFoundError) or "is not a valid model identifier" in text:
        return (
            "the hub has no such repository, or it is private. Look for a mistake in its name; if it is private, log "
            "in with `hf auth login`. The path of a local folder is written with ./ or / in front."
        )
    if _any(chain, OfflineModeIsEnabled) or _any(chain, LocalEntryNotFoundError) or "couldn't connect to" in text:
        return (
            "the hub cannot be reached from here and the checkpoint is not in the cache. Fetch it where there is a "
            f"network, by `hf download {model_id}`, and name the folder."
        )
    if "flash_attn" in text or "FlashAttention" in text or "flash_attention" in text:
        return (
            "attention is flash_attention_2, whose package is not installed or does not run here. Install it by `pip "
            "install flash-attn --no-build-isolation` (it needs a CUDA GPU), or set attention to sdpa."
        )
    if "does not support an attention implementation" in text:
        return "its architecture does not have this attention. Set attention to eager, or to null for what it has."
    return f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _any(chain: list[BaseException], kind: type[BaseException]) -> bool:
    return any(isinstance(link, kind) for link in chain)
