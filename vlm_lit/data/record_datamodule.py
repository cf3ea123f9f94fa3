"""Data module of what records hold, read as a checkpoint's processor needs it; bad records are refused or left out."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

from transformers import ProcessorMixin

from vlm_lit.data.answers.blind import Blind
from vlm_lit.data.answers.evaluation_batches import EvaluatedItems
from vlm_lit.data.answers.judged_turns import JudgedTurns
from vlm_lit.data.checking.settled import BadRecordSettings
from vlm_lit.data.checkpoint.image_settings import ImageSettings
from vlm_lit.data.checkpoint.processors import ImageBackend, check_image_backend, load_processor
from vlm_lit.data.dealing import ItemCost
from vlm_lit.data.item_costs import item_costs
from vlm_lit.data.records.record_dataset import Item, RecordDataset
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.data.step_datamodule import StepDataModule
from vlm_lit.errors import ConfigError

ValidateBy = Literal["both", "answers", "loss"]
CheckImages = Literal["header", "full", "none"]


class RecordDataModule(StepDataModule[Item]):
    """A data module that has a checkpoint's processor, and that looks at all records before a run starts.

    Args:
        model_id, revision: checkpoint whose processor is used.
        prompt, system: template of a question, and system message before every conversation that has none.
        image_backend: the library that resizes and normalizes images.
        image_settings: settings of the image processor instead of those in its files.
        check_images: how every image is looked at before the run starts.
        bad_records: what happens where records cannot be used.
        blind: what an evaluation shows in the images' place; None shows the images.
        validate_by: what a validation measures.
        judged_turns: which answers of a conversation an evaluation asks for.
        settings: those of the class above.
    """

    task: Literal["generate", "classify"] = "generate"
    """How the checkpoint must answer that these batches are for."""

    def __init__(
        self,
        *,
        model_id: str,
        revision: str | None,
        prompt: str | None,
        system: str | None,
        image_backend: ImageBackend,
        image_settings: ImageSettings,
        check_images: CheckImages,
        bad_records: BadRecordSettings,
        blind: Blind | None,
        validate_by: ValidateBy,
        judged_turns: JudgedTurns,
        **settings: Any,  # noqa: ANN401 - as said
    ) -> None:
        super().__init__(**settings)
        self.model_id, self.revision = model_id, revision
        self.prompt, self.system = prompt, system
        self.image_backend, self.image_settings = image_backend, image_settings
        self.check_images, self.bad_records = check_images, bad_records
        self.blind: Blind | None = blind
        self.validate_by, self.judged_turns = validate_by, judged_turns
        self._processor: ProcessorMixin | None = None

    @property
    def processor(self) -> ProcessorMixin:
        """The checkpoint's processor, loaded when first asked for."""
        if self._processor is None:
            self._processor = load_processor(self.model_id, self.revision, self.image_backend, self.image_settings)
        return self._processor

    def setup(self, stage: str) -> None:
        """Open and check the sources that `stage` (fit, validate, test, predict) needs."""
        check_image_backend(self.image_backend)  # not when made: a budget is for another machine
        if stage == "fit" and self.blind is not None:
            raise ConfigError(
                f"data.blind is {self.blind}, which is for evaluations: a model trains on its images. Leave it out of "
                "fit, and give it to test, validate or predict."
            )
        super().setup(stage)

    def costs(self, items: EvaluatedItems[Item]) -> list[ItemCost] | None:
        """What each item of a data set costs, its images in the tokens that the processor writes for them."""
        return item_costs(items.sizes, self.processor)

    @abstractmethod
    def open(self, split: str, source: SourceSettings) -> RecordDataset[Item] | StreamedSteps[Item]:
        """Open a split's source and check its records, those of `skipped` left out."""

    def examined(self, split: str) -> RecordDataset[Item]:
        """A split without the records that cannot be used, however many; its `skipped` are these.

        Raises:
            ConfigError: it is a stream.
        """
        source, as_set = self.sources[split], self.bad_records
        assert source is not None
        if source.streaming:
            raise ConfigError(f"data.{split} is streamed, so nobody knows its records ahead. Set streaming to false.")
        self.bad_records = BadRecordSettings(policy="skip", most=None)
        try:
            opened = self.open(split, source)
        finally:
            self.bad_records = as_set
        assert isinstance(opened, RecordDataset)
        return opened

    def learns(self, split: str) -> bool:
        """Whether a split is trained on, or its loss is measured."""
        return split == "train" or (split == "val" and self.validate_by != "answers")

    def asks(self, split: str) -> bool:
        """Whether the questions of a split are answered."""
        return split != "train" and (split != "val" or self.validate_by != "loss")

    def judged(self, split: str) -> JudgedTurns:
        """Which answers of a split's conversations are asked for."""
        return "last" if split == "predict" else self.judged_turns

    def course(self) -> dict[str, Any]:
        """What training's items and their order follow from; a run that goes on must have the same."""
        return {**super().course(), "prompt": self.prompt, "system": self.system}
