"""Questions of an evaluation in the order they were asked; the answered ones leave from the front.

Where answers are long, some are still in the making when the next batch of questions comes, and go on beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from vlm_lit.schema import Conversation, EvaluationBatch, Prediction, Reply
from vlm_lit.training.running_replies import RunningReplies


@dataclass(eq=False)
class _Question:
    """Where it was asked, the batch and its place there, and its answer once there is one."""

    where: tuple[int, int]
    prediction: Prediction | None = None


class AskedQuestions:
    """What became of the questions of an evaluation.

    Args:
        answers: the predictions of a batch, in the order they were asked for.
        take: is given the predictions, in the order of all questions.
        also: evaluates what else there is of a batch; where it raises, it has done nothing.
        running: makes replies over several batches; None answers a batch before the next one comes.
    """

    def __init__(
        self,
        answers: Callable[[EvaluationBatch], list[Prediction]],
        take: Callable[[list[Prediction]], object],
        also: Callable[[EvaluationBatch], object] = lambda _: None,
        running: RunningReplies | None = None,
    ) -> None:
        self.answers, self.take, self.also, self.running = answers, take, also, running
        self._asked: list[_Question] = []
        self._new: list[_Question] = []
        self._going_on: dict[int, _Question] = {}

    def ask(self, batch: EvaluationBatch, batch_idx: int = 0, *, whole: bool = True) -> None:
        """Evaluate a batch, and go on with the answers of those before it; where it raises, `lost` must be called.

        Args:
            batch: the questions.
            batch_idx: which of the loader's batches it is.
            whole: answer every question; else the last half of a batch may be answered beside the next one.
        """
        self._new = [_Question((batch_idx, place)) for place in range(len(batch.ids))]
        self._asked += self._new
        if self.running is None:
            self._keep(self._new, self.answers(batch))
        else:
            self._go_on(batch, self.running, 0 if whole else len(batch.ids) // 2)
        self.also(batch)
        self._new = []
        self._hand_on()

    def ask_again(self, batch: EvaluationBatch) -> None:
        """Answer the first of the questions that were lost; where it raises, it has done nothing."""
        self._keep([one for one in self._asked if one.prediction is None][: len(batch.ids)], self.answers(batch))
        self._hand_on()

    def lost(self) -> list[tuple[int, int]]:
        """Forget the batch that was asked last, and say where those were asked before it that have no answer."""
        self._asked = [one for one in self._asked if one not in self._new]
        self._new, self._going_on = [], {}
        if self.running is not None:
            self.running.drop()
        return [one.where for one in self._asked if one.prediction is None]

    def _go_on(self, batch: EvaluationBatch, running: RunningReplies, until: int) -> None:
        named = defaultdict[str, list[_Question]](list)
        for name, question in zip(batch.ids, self._new, strict=True):
            named[name].append(question)
        for prompts in batch.batches:
            asked = [named[conversation.id].pop(0) for conversation in prompts.conversations]
            if running.takes(prompts):
                self._going_on |= dict(zip(running.add(prompts), asked, strict=True))
            else:
                ids = [conversation.id for conversation in prompts.conversations]
                self._keep(asked, self.answers(EvaluationBatch(batches=[prompts], ids=ids)))
        for number, conversation, reply in running.run(until):
            self._going_on.pop(number).prediction = prediction_of(conversation, reply)

    def _keep(self, questions: list[_Question], found: list[Prediction]) -> None:
        for question, prediction in zip(questions, found, strict=True):
            question.prediction = prediction

    def _hand_on(self) -> None:
        """Let go of the predictions in front of the first question without one."""
        ready = next((i for i, one in enumerate(self._asked) if one.prediction is None), len(self._asked))
        self.take([one.prediction for one in self._asked[:ready] if one.prediction is not None])
        del self._asked[:ready]


def prediction_of(conversation: Conversation, reply: Reply) -> Prediction:
    """A reply with what it replies to, not yet judged."""
    questions = (turn.text.strip() for turn in reversed(conversation.turns) if turn.role == "user")
    return Prediction(
        id=conversation.id,
        image=str(conversation.images[0]) if conversation.images else None,
        image_id=conversation.image_id,
        question=next(questions, ""),
        references=conversation.references,
        prediction=reply.text,
        score=None,
        groups=conversation.groups,
        choices=conversation.choices,
        confidence=reply.confidence,
        turn=conversation.turn,
        unfinished=reply.unfinished,
    )
