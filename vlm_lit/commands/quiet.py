"""Library messages that are silenced: those that mislead, or tell a user nothing to act upon.

Each is silenced by its own text and for a stated reason; everything else is let through. No heavy import: some of it
is said while the libraries are being imported.
"""

from __future__ import annotations

import logging
import warnings
from typing import Final

from vlm_lit.errors import printable

_MESSAGES: Final = {
    "bitsandbytes.backends.cpu.ops": (
        # An optional faster kernel for 4-bit layers on a CPU; without it the results are the same.
        "Failed to load CPU gemm_4bit_forward from kernels-community",
    ),
    # 8-bit layers multiply in half precision, whatever their inputs come in.
    "bitsandbytes.autograd._functions": ("MatMul8bitLt: inputs will be cast from",),
    # Which GPUs a process sees, once for each process.
    "lightning.pytorch.accelerators.cuda": ("LOCAL_RANK: ",),
    # An argument that PEFT and older configs still call by its old name.
    "transformers.configuration_utils": ("`torch_dtype` is deprecated",),
    "transformers.modeling_utils": ("`torch_dtype` is deprecated",),
    "lightning.pytorch.utilities.rank_zero": (
        # Advertisements: litlogger, litmodels and whatever comes next begin with this.
        "\N{ELECTRIC LIGHT BULB} Tip:",
        # Devices that this run was not asked to use and that are not there.
        "GPU available: False",
        "TPU available: False",
        "HPU available: False",
        "IPU available: False",
        # The path that was asked for, said twice.
        "Restoring states from the checkpoint path at",
        # Lightning's single epoch, not the number that the user asked for.
        "`Trainer.fit` stopped: `max_epochs=1` reached.",
    ),
}
_WARNINGS: Final = (
    # PEFT 0.21 asks transformers 5.23 by a name that is to go in version 6.
    ("`is_gradient_checkpointing` is deprecated", FutureWarning),
    # Lightning 2.6 walks batches with a name that torch 2.13 is to drop.
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),
    # Frozen parts are in evaluation mode on purpose: no dropout there.
    ("Found .* in eval mode at the start of training", UserWarning),
    # The number of workers is the user's setting; `train/data_wait_share` tells whether it is too small.
    ("The '.*_dataloader' does not have many workers", UserWarning),
    # tqdm in a notebook without ipywidgets: its bars are then drawn as text.
    ("IProgress not found", Warning),
)


class Unsaid(logging.Filter):
    """Drops the log records whose message holds one of the given texts."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        super().__init__()
        self.texts = texts

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be shown."""
        return not any(text in record.getMessage() for text in self.texts)


class WithoutControls(logging.Filter):
    """Writes out what would steer a terminal in a log record: file names and groups of a data set are in some."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be shown: always."""
        said = record.getMessage()
        shown = printable(said, lines=True)
        if shown != said:
            record.msg, record.args = shown, ()
        return True


def quiet() -> None:
    """Silence the messages above in this process, and keep control characters out of those that are shown."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    if not any(isinstance(present, WithoutControls) for present in logger.filters):
        logger.addFilter(WithoutControls())
    for name, texts in _MESSAGES.items():
        logger = logging.getLogger(name)
        if not any(isinstance(present, Unsaid) for present in logger.filters):
            logger.addFilter(Unsaid(texts))
    for message, category in _WARNINGS:
        warnings.filterwarnings("ignore", message=message, category=category)
