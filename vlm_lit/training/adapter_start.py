"""Start from a saved adapter: whether it belongs to the base and the images of the run that takes it over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from transformers.utils.hub import cached_file

from vlm_lit.models.adapter_state import FINGERPRINT
from vlm_lit.models.merge.base_source import is_base, read_fingerprint
from vlm_lit.training.processor_change import check_adapter


def check_origin(
    adapter: Path,
    model_id: str,
    revision: str | None,
    processor: Mapping[str, Any] | None,
    digest: Callable[[Path], str],
) -> None:
    """Refuse an adapter that was trained on another base, and warn where its images were prepared otherwise.

    Args:
        adapter: its folder; one without a fingerprint, which others write, does not say.
        model_id: folder or hub id of this run's base.
        revision: its revision on the hub.
        processor: this run's, as `processor_identity` gives it; None where there are no data.
        digest: gives a weight file's SHA-256, asked for only where the fingerprint has some.

    Raises:
        ConfigError: the base is another one, or the fingerprint cannot be read.
    """
    if not (adapter / FINGERPRINT).is_file():
        return
    base = read_fingerprint(adapter)["base"]
    folder = Path(model_id)
    if not folder.is_dir():
        folder = Path(cached_file(model_id, "config.json", revision=revision)).parent
    if not is_base(folder, base, elsewhere="Set model.init_args.model_id to an unchanged copy", digest=digest):
        rank_zero_warn(f"Nothing shows whether {model_id} is the base that the adapter in {adapter} was trained on.")
    if processor is not None:
        check_adapter(adapter, processor)
