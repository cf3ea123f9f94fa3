"""Merge of a run's adapter into its base: merged, compared and described, written whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from transformers import ProcessorMixin

from vlm_lit.commands.merge_needs import merge_needs
from vlm_lit.data.checkpoint.settings_files import write_image_settings
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.errors import ConfigError
from vlm_lit.files.whole import write_folder_whole
from vlm_lit.models.families import family_of
from vlm_lit.models.loading import load_config
from vlm_lit.models.merge.agreement import LogitAgreement, compare, text_logits
from vlm_lit.models.merge.base_source import BaseSource, adapter_folder, find_base, read_fingerprint
from vlm_lit.models.merge.merging import (
    image_token,
    load_model,
    load_tuned,
    merge,
    round_full_parts,
    save_merged,
    weight_names,
)
from vlm_lit.models.quantization import DTYPES
from vlm_lit.schema import IMAGE, Conversation, ImageRef, Turn
from vlm_lit.studies.reporting.model_card import model_card, read_run
from vlm_lit.training.processor_change import processor_of_run

Dtype = Literal["bf16", "fp16", "fp32"]

_FLOAT32_BELOW: Final = 1_000_000_000
"""Parameters below which a model is merged in float32 as well, to show that the sum itself is exact."""

_ROUNDING: Final = 1e-4
"""Largest difference in float32, as a share of the logits, that the order of additions explains (measured: 2e-6)."""


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What a merge made, and how it compares with base and adapter on the probe.

    Args:
        folder: the merged model.
        base: where the base was read.
        learned: base against base + adapter: what the adapter changes.
        rounded: base + adapter against the merged model as reloaded from its files, both in its dtype.
        exact: the same in float32; null for models of a billion parameters and more.
        warnings: what the user should know.
    """

    folder: Path
    base: BaseSource
    learned: LogitAgreement
    rounded: LogitAgreement
    exact: LogitAgreement | None
    warnings: tuple[str, ...]

    @property
    def sentences(self) -> list[str]:
        """How the merged model compares, in words."""
        words = [
            f"Base against base + adapter: {self.learned.words}.",
            f"Base + adapter against the merged model, reloaded: {self.rounded.words}.",
        ]
        if self.exact is not None and self.exact is not self.rounded:
            words.append(f"The same, merged in float32: {self.exact.words}.")
        return words


def merge_run(
    run: Path | str,
    output: Path | str,
    *,
    dtype: Dtype = "bf16",
    base: str | None = None,
    name: str | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Merged:
    """Merge a run's adapter into its base; write the model, its processor and its card to `output`.

    The folder appears once it is whole, was reloaded and was compared, or not at all.

    Args:
        run: a run's directory, or its `adapter/` folder.
        output: folder to write; must not exist, or be empty.
        dtype: dtype of the merged weights.
        base: folder or hub id of the base, if it is not where it was trained from.
        name: what the model card calls the model; null takes the folder's name.
        say: takes what the merge needs, in words, before any weight is read.

    Raises:
        ConfigError: something is missing, the base is another one, or the merged model is not the tuned one.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output} exists and is not empty. Name another --output, or remove it first.")
    adapter = adapter_folder(Path(run))
    fingerprint = read_fingerprint(adapter)
    source = find_base(fingerprint, base)
    if fingerprint.get("answers") is not None:
        _check_classifier(source)
    needs = merge_needs(source.folder, output, DTYPES[dtype], checked_below=_FLOAT32_BELOW)
    say("\n".join(needs.words))
    processor, notes = processor_of_run(source.folder, fingerprint)

    def fill(folder: Path) -> Merged:
        answers = fingerprint.get("answers")
        inputs = probe(processor) if answers is None else class_probe(processor)
        comparison = _Comparison(source.folder, adapter, DTYPES[dtype], inputs, answers)
        learned, rounded, exact = comparison.run(folder)
        notes.extend(write_image_settings(processor, folder))
        warnings = (*notes, *_warnings(source, folder, learned, rounded))
        merged = Merged(folder=output, base=source, learned=learned, rounded=rounded, exact=exact, warnings=warnings)
        card = model_card(
            read_run(adapter, fingerprint),
            name=name or output.absolute().name,
            dtype=dtype,
            merged=merged.sentences,
            chat_template=getattr(processor, "chat_template", None) is not None,
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
        return merged

    return write_folder_whole(output, fill)


def _check_classifier(source: BaseSource) -> None:
    if family_of(load_config(str(source.folder)).model_type).task != "classify":
        raise ConfigError(
            f"The adapter's fingerprint.json names answers to choose from, and {source.folder} generates its answers. "
            "The adapter belongs to another base, or its fingerprint was changed."
        )


@dataclass(frozen=True)
class _Comparison:
    """Merges, and measures what came of it. One model is in memory at a time."""

    base: Path
    adapter: Path
    dtype: torch.dtype
    inputs: Mapping[str, Tensor]
    answers: Sequence[str] | None = None

    def run(self, whole: Path) -> tuple[LogitAgreement, LogitAgreement, LogitAgreement | None]:
        """Write the merged model to `whole`; what was learned, and what merging in this dtype and in float32 changed.

        Raises:
            ConfigError: in float32 the merged model differs by more than the order of additions explains.
        """
        before, tuned, parameters = self._unmerged(self.dtype)
        learned, rounded = compare(before, tuned), compare(tuned, self._merged(self.dtype, whole))
        exact = rounded if self.dtype == torch.float32 else None
        if exact is None and parameters < _FLOAT32_BELOW:
            _, tuned, _ = self._unmerged(torch.float32)
            with tempfile.TemporaryDirectory(prefix=".float32-", dir=whole) as scratch:
                exact = compare(tuned, self._merged(torch.float32, Path(scratch)))
        if exact is not None and exact.difference > _ROUNDING * exact.size:
            raise ConfigError(
                f"The merged model is not the tuned one: in float32, {exact.words}. Nothing was written. Merge with "
                "the versions of transformers and peft that fingerprint.json names, and report this."
            )
        return learned, rounded, exact

    def _unmerged(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, int]:
        """The logits of the base and of base + adapter, and how many parameters they have."""
        model = load_tuned(self.base, self.adapter, dtype, self.answers)
        round_full_parts(model, dtype)
        tuned = self._logits(model)
        with model.disable_adapter():
            before = self._logits(model)
        return before, tuned, sum(parameter.numel() for parameter in model.parameters())

    def _merged(self, dtype: torch.dtype, target: Path) -> Tensor:
        """The logits of the merged model as it is read from `target`, where this writes it."""
        save_merged(merge(load_tuned(self.base, self.adapter, answers=self.answers), dtype), self.base, target)
        model = load_model(target)
        assert model.dtype == dtype
        return self._logits(model)

    def _logits(self, model: torch.nn.Module) -> Tensor:
        return text_logits(model, self.inputs, image_token(model))


def _warnings(source: BaseSource, merged: Path, learned: LogitAgreement, rounded: LogitAgreement) -> list[str]:
    words = []
    if not source.verified:
        words.append(
            f"fingerprint.json holds neither digests nor a commit to compare {source.folder} with; whether that is the "
            "base the adapter was trained on is not known."
        )
    if learned.difference == 0:
        words.append(
            "the adapter changes nothing that shows: base and tuned model give the same logits. Was it trained?"
        )
    elif rounded.difference > learned.difference / 2:
        words.append(
            f"rounding moves the logits by {rounded.difference:.2g}, what was learned by {learned.difference:.2g}: "
            "some of it may be lost. Compare answers, or use --dtype fp32."
        )
    ours, theirs = weight_names(merged), weight_names(source.folder)
    if ours != theirs:
        words.append(
            f"the base's files hold {len(theirs - ours)} tensors that the merged model has no use for, and lack "
            f"{len(ours - theirs)} that it has (first: {min(ours ^ theirs)})."
        )
    return words


def probe(processor: ProcessorMixin) -> dict[str, Tensor]:
    """A model's inputs for one row: a question about a drawn picture, and its answer."""
    image = _picture()
    question = Turn(role="user", content=(IMAGE, "What is in this picture, and where?"))
    answer = Turn(role="assistant", content=("A red square on the left and a blue disc on the right, all on grey",))
    conversation = Conversation(id="probe", turns=(question, answer), images=(ImageRef(pixels=image),))
    return encoder_of(processor).encode([conversation], [[image]], side="right").inputs


def class_probe(processor: ProcessorMixin) -> dict[str, Tensor]:
    """A classifier's inputs for one question about a drawn picture.

    Raises:
        ConfigError: the processor's files hold settings that it cannot work with.
    """
    try:
        return dict(processor(text=["what colour is the disc?"], images=[_picture()], return_tensors="pt"))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"The checkpoint's processor refuses a picture: {error}. Fetch its files again.") from error


def _picture() -> Image.Image:
    image = Image.new("RGB", (336, 336), (200, 200, 200))
    draw = ImageDraw.Draw(image)
    draw.rectangle((40, 120, 140, 220), fill=(200, 30, 30))
    draw.ellipse((200, 120, 300, 220), fill=(30, 60, 200))
    return image
