"""Answers handed in: a run's predictions written in the form that a benchmark's server reads (`score --server`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlm_lit.commands.filed_rows import rows
from vlm_lit.errors import ConfigError
from vlm_lit.files.whole import write_whole
from vlm_lit.studies.run_files.predictions import read_predictions
from vlm_lit.studies.run_files.server_files import server_file


def write_server_file(name: str, files: Sequence[Path], output: Path, template: Path | None = None) -> int:
    """Write the file whole; how many answers it holds.

    Args:
        name: whose server.
        files: `predictions.jsonl` of runs; several are put together, as A-OKVQA's two settings are handed in.
        output: the file to write.
        template: the benchmark's own records, where the server reads them with the answers filled in.

    Raises:
        VlmLitError: a file is broken, or its answers cannot be handed in there.
        ConfigError: there is no such server, or the file cannot be written.
    """
    predictions = [prediction for file in files for prediction in read_predictions(file)]
    content = server_file(name, predictions, None if template is None else list(rows(template)))
    try:
        write_whole(output, content)
    except OSError as error:
        raise ConfigError(f"--output {output} cannot be written: {error.strerror}.") from error
    return len(predictions)
