"""Inspection of a classifier's run with its own collator and model: one step is made, and all of it thrown away.

B = questions, N = answers, H and W = height and width of the largest picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import lightning
import torch
from lightning import LightningModule
from PIL import Image
from torch import Tensor

from vlm_lit.data.images.images import load_images
from vlm_lit.data.record_datamodule import RecordDataModule
from vlm_lit.data.rows.class_collate import ClassCollator
from vlm_lit.data.rows.class_encoding import ClassEncoder, question_of
from vlm_lit.errors import RecordError, VlmLitError, raised
from vlm_lit.preflight.inspection.choice import sampled
from vlm_lit.preflight.inspection.class_report import ClassInspection, InspectedQuestion
from vlm_lit.preflight.inspection.gradient_flow import gradient_flow
from vlm_lit.preflight.inspection.lengths import Lengths
from vlm_lit.preflight.inspection.loaded_run import findings_of, loaded, run_facts, thumbnails
from vlm_lit.schema import ClassBatch, Conversation, StepBatch
from vlm_lit.training.protocols import ChoosesAnswers, Tabulated


def inspect_classifier(
    module: LightningModule,
    data: RecordDataModule[Any],
    trainer: lightning.Trainer,
    *,
    questions: int,
    lengths: int,
    say: Callable[[str], None],
) -> ClassInspection:
    """Load the model, look at questions as they would be collated, and make one step. The module is spoiled by it.

    Args:
        module: the run's module, its model not loaded yet; it has a loss(batch).
        data: the run's data, set up for `fit`; it says which answers there are.
        trainer: says where and in which precision the run computes.
        questions: how many questions are shown and stepped on.
        lengths: how many are measured.
        say: takes a line of progress.

    Raises:
        RecordError: a record that cannot be used.
        VlmLitError: no question has a target, or the gradient is not finite.
    """
    assert isinstance(data, ChoosesAnswers)
    held = loaded(module, data, trainer, say)
    parts = module.parts_table() if isinstance(module, Tabulated) else []
    say("Measuring questions ...")
    loader = data.train_dataloader()
    collator = loader.collate_fn
    assert isinstance(collator, ClassCollator)
    in_order, sample, total = sampled(loader, lengths)
    shown = list(islice(in_order, questions))
    tokens = _tokens(collator.encoder, sample)
    say(f"Making one step on {len(shown)} questions, to be thrown away ...")
    step_batch = raised(collator(shown))
    if not step_batch.micro_batches:
        raise VlmLitError(f"None of the {len(shown)} questions looked at has a target. The first: {shown[0].id}.")
    reader = _QuestionReader(collator.encoder, data.vocabulary.answers, int(held.base.config.patch_size))
    inspected = list(reader.questions(step_batch, shown))
    data.transfer_batch_to_device(step_batch, module.device, 0)
    with trainer.precision_plugin.train_step_context():
        flow = gradient_flow(module, step_batch)
    return ClassInspection(
        **run_facts(held, data, trainer),
        parts=parts,
        answers=len(data.vocabulary),
        questions=inspected,
        lengths=Lengths(
            tokens=tuple(tokens.values()),
            total=total,
            max_length=collator.encoder.most_words,
            over_length="cut",
            items="questions",
        ),
        cut={name: count for name, count in tokens.items() if count > collator.encoder.most_words},
        untargeted=_untargeted(collator, step_batch, sample),
        findings=findings_of(data),
        gradients=flow,
    )


def _tokens(encoder: ClassEncoder, sample: Sequence[Conversation]) -> dict[str, int]:
    """Tokens of each question before it is cut."""
    found: dict[str, int] = {}
    for conversation, length in zip(sample, encoder.text_lengths(sample), strict=True):
        if isinstance(length, RecordError):
            raise length
        found[conversation.id] = length
    return found


def _untargeted(
    collator: ClassCollator, step_batch: StepBatch[ClassBatch], sample: Sequence[Conversation]
) -> list[str]:
    """The ids of questions without a target: of the sample, and of those shown, as their batch has them."""
    empty = [conversation.id for conversation in sample if not collator.targets(conversation)]
    for batch in step_batch.micro_batches:
        empty += [name for name, right in zip(batch.ids, batch.targets.any(1).tolist(), strict=True) if not right]
    return list(dict.fromkeys([*step_batch.dropped, *empty]))


class _QuestionReader:
    """Reads questions off a batch.

    Args:
        encoder: made their rows.
        answers: the N answers.
        patch: the side of a patch, in pixels.
    """

    def __init__(self, encoder: ClassEncoder, answers: Sequence[str], patch: int) -> None:
        self.encoder, self.answers, self.patch = encoder, answers, patch

    def questions(
        self, step_batch: StepBatch[ClassBatch], shown: Sequence[Conversation]
    ) -> Iterator[InspectedQuestion]:
        """The questions of a step, in the order of `shown`; those that it dropped are left out."""
        places = {name: (batch, i) for batch in step_batch.micro_batches for i, name in enumerate(batch.ids)}
        for conversation in shown:
            if conversation.id in places:
                yield self._question(conversation, *places[conversation.id])

    def _question(self, conversation: Conversation, batch: ClassBatch, row: int) -> InspectedQuestion:
        ids = batch.inputs["input_ids"][row][batch.inputs["attention_mask"][row].bool()].tolist()
        pixels = self._pixels(batch, row)
        height, width = pixels.shape[-2:]
        (file,) = load_images(conversation)
        (small,) = thumbnails([self._picture(pixels)])
        return InspectedQuestion(
            id=conversation.id,
            words=tuple(self.encoder.tokenizer.convert_ids_to_tokens(ids)),
            left_out=self._left_out(conversation, ids),
            targets=self._targets(batch.targets[row]),
            file_size=file.size,
            size=(width, height),
            patches=(height // self.patch) * (width // self.patch),
            picture=small,
        )

    def _targets(self, scores_N: Tensor) -> dict[str, float]:
        right = {self.answers[place]: float(scores_N[place]) for place in scores_N.nonzero().flatten().tolist()}
        return dict(sorted(right.items(), key=lambda item: -item[1]))

    def _left_out(self, conversation: Conversation, ids: Sequence[int]) -> str:
        """The words of a question that its row lacks."""
        whole: list[int] = self.encoder.tokenizer(question_of(conversation), verbose=False)["input_ids"]
        if len(whole) <= len(ids):
            return ""
        said: str = self.encoder.tokenizer.decode(whole[len(ids) - 1 : -1])  # both end with a token that closes them
        return said

    def _pixels(self, batch: ClassBatch, row: int) -> Tensor:
        """A row's picture [3, h, w] without its padding."""
        pixels_CHW = batch.inputs["pixel_values"][row]
        mask = batch.inputs.get("pixel_mask")
        if mask is None:
            return pixels_CHW
        seen_HW = mask[row].bool()
        return pixels_CHW[:, : int(seen_HW.any(1).sum()), : int(seen_HW.any(0).sum())]

    def _picture(self, pixels_Chw: Tensor) -> Image.Image:
        """The picture that an image processor made these pixels of."""
        processor: Any = self.encoder.processor.image_processor
        mean, spread = (torch.tensor(values).view(-1, 1, 1) for values in (processor.image_mean, processor.image_std))
        levels = ((pixels_Chw.float() * spread + mean).clamp(0, 1) * 255).round().to(torch.uint8)
        return Image.fromarray(levels.permute(1, 2, 0).numpy())
