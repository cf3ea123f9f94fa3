r"""How does a run's `predictions.jsonl` become the file that a benchmark's server reads?

python scripts/server_file.py --format vqa_v2 --predictions runs/x/predictions.jsonl --output results.json
python scripts/server_file.py --format aokvqa --output results.json --predictions \
    runs/choice/predictions.jsonl runs/direct/predictions.jsonl
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vlm_lit.errors import VlmLitError
from vlm_lit.studies.run_files.predictions import read_predictions
from vlm_lit.studies.run_files.server_files import FORMATS, server_file


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=FORMATS, required=True, help="whose server")
    runs = "a run's predictions.jsonl; several are put together, as A-OKVQA's two settings are handed in"
    parser.add_argument("--predictions", type=Path, required=True, nargs="+", help=runs)
    parser.add_argument("--output", type=Path, required=True, help="the file to write; its folder must be there")
    options = parser.parse_args(arguments)
    try:
        predictions = [prediction for path in options.predictions for prediction in read_predictions(path)]
        options.output.write_text(server_file(options.format, predictions), encoding="utf-8")
    except VlmLitError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {options.output}: cannot be written ({error.strerror}). Name another --output.")
    print(f"{len(predictions):,} answers written to {options.output}")


if __name__ == "__main__":
    main()
