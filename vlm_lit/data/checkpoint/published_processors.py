"""Settings in a published checkpoint's files that transformers does not read into its processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer
from transformers import AutoConfig, PreTrainedTokenizerBase, ProcessorMixin
from transformers.utils.hub import cached_file

# Vision towers with a token in front of the patches, which `default` leaves out of an image's features.
_LEADING_TOKEN: Final = ("clip_vision_model", "clip")


def complete(processor: ProcessorMixin, model_id: str, revision: str | None) -> None:
    """Put into a processor, in place, what else the checkpoint's files say of it."""
    _take_tokenizer_template(processor)
    _take_patches(processor, model_id, revision)
    _mend_pre_tokenizer(processor.tokenizer, model_id, revision)


def _take_tokenizer_template(processor: ProcessorMixin) -> None:
    """A chat template that stands in tokenizer_config.json only."""
    own = getattr(processor.tokenizer, "chat_template", None)
    if getattr(processor, "chat_template", None) is None and own is not None:
        processor.chat_template = own


def _take_patches(processor: ProcessorMixin, model_id: str, revision: str | None) -> None:
    """LLaVA's patch size and feature choice, which folders without processor_config.json have in the model's config."""
    wanted = [name for name in ("patch_size", "vision_feature_select_strategy") if hasattr(processor, name)]
    missing = [name for name in wanted if getattr(processor, name) is None]
    if not missing:
        return
    config = AutoConfig.from_pretrained(model_id, revision=revision, trust_remote_code=False)
    vision = getattr(config, "vision_config", None)
    strategy = getattr(config, "vision_feature_select_strategy", None)
    found = {"patch_size": getattr(vision, "patch_size", None), "vision_feature_select_strategy": strategy}
    for name in missing:
        setattr(processor, name, found[name])
    if getattr(vision, "model_type", None) in _LEADING_TOKEN and hasattr(processor, "num_additional_image_tokens"):
        processor.num_additional_image_tokens = 1


def _mend_pre_tokenizer(tokenizer: PreTrainedTokenizerBase, model_id: str, revision: str | None) -> None:
    """Put back how the checkpoint's tokenizer.json cuts text into words, where transformers put another way there.

    A class that builds its tokenizer from the vocabulary alone (GPT2Tokenizer) cuts text as GPT-2 does, so that
    numbers and line breaks get other tokens than the model was trained on.
    """
    path = cached_file(
        model_id,
        "tokenizer.json",
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if path is None or backend is None:
        return
    stored = json.loads(Path(path).read_text(encoding="utf-8")).get("pre_tokenizer")
    if _cuts(stored) and not _cuts(json.loads(backend.to_str()).get("pre_tokenizer")):
        backend.pre_tokenizer = Tokenizer.from_file(str(path)).pre_tokenizer


def _cuts(pre_tokenizer: dict[str, Any] | None) -> bool:
    """Whether a pre-tokenizer has a rule of its own for where words end."""
    steps = (pre_tokenizer or {}).get("pretokenizers", [pre_tokenizer or {}])
    return any(step.get("type") == "Split" for step in steps)
