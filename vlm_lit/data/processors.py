"""Which processor turns words and pictures into tensors for a checkpoint?"""

from __future__ import annotations

import hashlib
import json

from transformers import AutoProcessor, ProcessorMixin

from vlm_lit.schema import ConfigError


def load_processor(model_id: str, revision: str | None = None) -> ProcessorMixin:
    """The checkpoint's own processor, from a local folder or the hub; no remote code is run.

    Raises:
        ConfigError: there is none, or it has no chat template.
    """
    try:
        processor = AutoProcessor.from_pretrained(model_id, revision=revision)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(f"No processor for model_id {model_id!r}: {reason}") from error
    if getattr(processor, "chat_template", None) is None:
        raise ConfigError(f"The processor of {model_id!r} has no chat template, so turns cannot be told apart.")
    return processor


def processor_identity(processor: ProcessorMixin) -> dict[str, object]:
    """What names a processor: its image settings and the digest of its chat template."""
    template = json.dumps(processor.chat_template, sort_keys=True)
    settings = json.loads(processor.image_processor.to_json_string())
    return {
        "class": type(processor).__name__,
        "image_processor": settings,
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
    }
