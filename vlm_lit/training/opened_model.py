"""A finished run, a merged model or a checkpoint, opened so that it answers as `test` makes it answer."""

from __future__ import annotations

import string
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from vlm_lit.data.checkpoint.processors import load_processor
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.length_limit import MaxLength
from vlm_lit.data.rows.over_length import OverLength
from vlm_lit.errors import ConfigError
from vlm_lit.files.strict_yaml import read_strict
from vlm_lit.models.adapter_state import FINGERPRINT, WEIGHTS, load_adapter
from vlm_lit.models.adapters import attach_adapters
from vlm_lit.models.attention import unpackable
from vlm_lit.models.families import Family, check_task, family_of
from vlm_lit.models.kept_settings import kept_settings
from vlm_lit.models.loading import load_base, load_config
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.merge.base_source import adapter_folder, find_base, read_fingerprint
from vlm_lit.models.merge.merging import load_model
from vlm_lit.models.mixed_precision import needs_autocast
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.quantization import QuantizationSettings
from vlm_lit.training.answering import ClosedSet
from vlm_lit.training.processor_change import processor_of_run

_LONGEST_ANSWER: Final = 256
"""Tokens of an answer where no run says how many."""


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """What a run's answers follow from, besides its weights.

    Args:
        prompt: template of a question, as the run's data have it.
        system: system message before every conversation.
        max_new_tokens: longest answer.
        answer_from: what answers are chosen from; None generates.
        answer_schema: file with a JSON Schema that generated answers are held to; None holds them to nothing.
        max_length: most tokens of a conversation, as the run's data have it.
        over_length: what happens to a longer one.
        packing: whether a row is made as those that questions share are.
        bf16: whether layers compute under bfloat16 autocast.
        attention: transformers' attention implementation.
    """

    prompt: str | None = None
    system: str | None = None
    max_new_tokens: int = _LONGEST_ANSWER
    answer_from: ClosedSet | None = None
    answer_schema: str | None = None
    max_length: MaxLength = None
    over_length: OverLength = "error"
    packing: bool = True
    bf16: bool = False
    attention: str | None = None

    @property
    def takes_question_alone(self) -> bool:
        """Whether the prompt needs nothing of a record but its question."""
        names = {
            name.partition("|")[0] for _, name, _, _ in string.Formatter().parse(self.prompt or "{question}") if name
        }
        return names == {"question"}


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A model on its device, ready to answer.

    Args:
        name: what it is, in words.
        model: the model; with an adapter on it, a `PeftModel`.
        family: its facts.
        encoder: makes its inputs.
        settings: what its answers follow from.
        notes: what its user should know.
    """

    name: str
    model: PreTrainedModel | PeftModel
    family: Family
    encoder: ConversationEncoder
    settings: AnswerSettings
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def computing(self) -> AbstractContextManager[object]:
        """What the forward pass of an evaluation runs in."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.settings.bf16 else nullcontext()


def open_model(source: str, *, base: str | None = None) -> OpenedModel:
    """Load what `source` names.

    Args:
        source: a run's directory, its `adapter/`, a folder with a whole model, or a hub id.
        base: folder or hub id of the adapter's base, if it is not where it was trained from.

    Raises:
        ConfigError: there is no such thing, or it cannot be loaded.
    """
    folder = Path(source).expanduser()
    if any((place / WEIGHTS).is_file() for place in (folder, folder / "adapter")):
        return _run(folder, base)
    if base is not None:
        raise ConfigError(f"{source} holds no adapter, so --base has no effect. Leave it out.")
    if folder.is_dir() and not (folder / "config.json").is_file():
        adapter_folder(folder)  # says what is missing
    if not folder.exists() and _means_a_folder(source):
        raise ConfigError(
            f"There is no run and no model at {source}. Name the directory of a finished run, a merged model's folder, "
            "or a hub id (ORG/NAME)."
        )
    return _whole(source)


def _means_a_folder(source: str) -> bool:
    """Whether a path that is not there was meant as one, rather than as a hub id."""
    first = Path(source).parts[0] if Path(source).parts else source
    return source.startswith((".", "/", "~")) or source.strip("/").count("/") != 1 or Path(first).is_dir()


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _whole(source: str) -> OpenedModel:
    """A model that is one by itself, in the dtype it is stored in."""
    model_type = load_config(source).model_type
    check_task(model_type, "generate")
    family = family_of(model_type)
    model = load_model(Path(source) if Path(source).is_dir() else source)
    encoder = encoder_of(load_processor(source))
    return OpenedModel(
        name=source,
        model=model.to(_device()).eval(),
        family=family,
        encoder=encoder,
        settings=AnswerSettings(packing=unpackable(model, family) is None),
    )


def _run(run: Path, base: str | None) -> OpenedModel:
    """A run's base in the precision it was trained in, its adapter on it."""
    adapter = adapter_folder(run)
    fingerprint = read_fingerprint(adapter)
    source = find_base(fingerprint, base)
    file = adapter / FINGERPRINT
    parts = kept_settings(PartsSettings, fingerprint.get("parts"), f"{file}: parts")
    quantization = kept_settings(QuantizationSettings, fingerprint.get("quantization"), f"{file}: quantization")
    lora = kept_settings(LoraSettings, fingerprint.get("lora"), f"{file}: lora")
    if not isinstance(fingerprint.get("seed"), int):
        raise ConfigError(f"{file} names no seed. Use a folder that fit wrote.")
    settings = _answer_settings(adapter.parent / "config.yaml", parts)
    processor, notes = processor_of_run(source.folder, fingerprint)
    loaded, family = load_base(
        str(source.folder),
        parts=parts,
        quantization=quantization,
        attention=settings.attention,
        device=_device(),
    )
    model = attach_adapters(loaded, family, parts, lora, seed=fingerprint["seed"])
    load_adapter(model, adapter)
    if not source.verified:
        notes.append(f"nothing shows whether {source.folder} is the base that the adapter was trained on.")
    if not (adapter.parent / "config.yaml").is_file():
        notes.append(f"{adapter.parent} holds no config.yaml: system message, prompt and longest answer are not known.")
    if not settings.takes_question_alone:
        notes.append(f"the run's prompt takes more than a question ({settings.prompt!r}); your words go as they are.")
    packing = settings.packing and unpackable(loaded, family) is None
    return OpenedModel(
        name=f"{source.model_id} with the adapter in {adapter}",
        model=model.to(_device()).eval(),
        family=family,
        encoder=encoder_of(processor),
        settings=_replaced(settings, packing=packing),
        notes=tuple(notes),
    )


def _replaced(settings: AnswerSettings, *, packing: bool) -> AnswerSettings:
    return AnswerSettings(**{**vars(settings), "packing": packing})


def _answer_settings(config: Path, parts: PartsSettings) -> AnswerSettings:
    """What the run's own config says; the defaults of a model without one where it is not there."""
    if not config.is_file():
        return AnswerSettings(bf16=needs_autocast(parts))
    found = read_strict(config, "config")
    settings = found if isinstance(found, dict) else {}
    model, data = made_from(settings.get("model")), made_from(settings.get("data"))
    answers, trainer = model.get("answer_from"), settings.get("trainer")
    precision = trainer.get("precision") if isinstance(trainer, dict) else None
    kept: dict[str, Any] = {
        **{name: data[name] for name in ("prompt", "system", "max_length", "over_length", "packing") if name in data},
        **{name: model[name] for name in ("max_new_tokens", "attention", "answer_schema") if name in model},
        "answer_from": {"answers": answers, "score": model.get("answer_score", "sum")} if answers else None,
        "bf16": precision in ("bf16-mixed", "bf16"),
    }
    return kept_settings(AnswerSettings, kept, str(config))


def made_from(section: object) -> dict[str, Any]:
    """What a section's class is made from."""
    if not isinstance(section, dict):
        return {}
    inner = section.get("init_args", section)
    return inner if isinstance(inner, dict) else {}
