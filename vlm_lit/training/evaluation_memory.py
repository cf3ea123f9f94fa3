"""Evaluation batches for which memory runs out: asked again in halves, with the same answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch

from vlm_lit.data.step_datamodule import StepDataModule
from vlm_lit.errors import VlmLitError
from vlm_lit.schema import EvaluationBatch
from vlm_lit.training.asked_questions import AskedQuestions
from vlm_lit.training.memory import is_out_of_memory
from vlm_lit.training.ranks import warn


class EvaluationMemory:
    """How many items of a split's evaluation fit into memory, learned from those that did not.

    Args:
        data: the data module, which makes batches anew; asked for when it is needed.
        split: which split is evaluated.
        device: where.
        questions: evaluates a batch.
        known: the most items that are asked together, by split, as earlier evaluations have learned; added to here.
    """

    def __init__(
        self,
        data: Callable[[], StepDataModule[Any]],
        split: str,
        device: torch.device,
        questions: AskedQuestions,
        known: dict[str, int] | None = None,
    ) -> None:
        self.data, self.split, self.device, self.questions = data, split, device, questions
        self._known = {} if known is None else known

    @property
    def most(self) -> int | None:
        """Most items that are asked together; None while there was no need for a limit."""
        return self._known.get(self.split)

    def evaluate(self, batch: EvaluationBatch, batch_idx: int, *, last: bool = True) -> None:
        """Evaluate one of the loader's batches, the `batch_idx`-th; every question has its answer behind the last.

        Raises:
            VlmLitError: there is not enough memory for a single item.
        """
        lost: list[int] = []
        if self.most is None:
            try:
                self.questions.ask(batch, batch_idx, whole=last)
            except Exception as error:
                lost = [self._batches[number][place] for number, place in self.questions.lost()]
                self._note(error, len(lost) + len(self._batches[batch_idx]))
            else:
                return
        # Outside the handler: the traceback of an error holds on to what was computed.
        self._in_pieces(lost, self.questions.ask_again)
        self._in_pieces(self._batches[batch_idx], self.questions.ask)

    @cached_property
    def _batches(self) -> list[list[int]]:
        """The positions in each of the loader's batches; there are many, so they are asked for once."""
        return self.data().evaluation_positions(self.split)

    def _in_pieces(self, positions: Sequence[int], use: Callable[[EvaluationBatch], None]) -> None:
        at = 0
        while at < len(positions):
            assert self.most is not None
            piece = positions[at : at + self.most]
            if self._fits(piece, use):
                at += len(piece)

    def _fits(self, piece: Sequence[int], use: Callable[[EvaluationBatch], None]) -> bool:
        batch = self.data().evaluation_batch(self.split, piece)
        moved = self.data().transfer_batch_to_device(batch, self.device, 0)
        assert isinstance(moved, EvaluationBatch)
        try:
            use(moved)
        except Exception as error:
            self.questions.lost()
            self._note(error, len(piece))
            return False
        return True

    def _note(self, error: Exception, items: int) -> None:
        """Let half as many be asked together from now on.

        Raises:
            VlmLitError: a single one does not fit.
        """
        if not is_out_of_memory(error):
            raise error
        if items <= 1:
            reason = " ".join(str(error).split())[:200]
            raise VlmLitError(
                f"Out of memory in the evaluation of data.{self.split} with a single question ({reason}). Lower "
                "max_new_tokens, max_length or the images' size, or store the model in fewer bits."
            ) from error
        self._known[self.split] = items // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        warn(
            f"Out of memory with {items} questions of data.{self.split} together; {self.most} are asked together from "
            "here on. data.init_args.eval_batch sets it from the start."
        )
