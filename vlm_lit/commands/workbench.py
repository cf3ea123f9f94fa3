"""`workbench`: write the built-in data set and its two tiny base models as a user's own files would be."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vlm_lit.commands.options import OptionParser, share, whole_number
from vlm_lit.errors import ConfigError


def run(verb: str, arguments: Sequence[str]) -> int:
    """Parse the options and write the folder; the exit status."""
    parser = OptionParser(verb, description=__doc__)
    parser.add_argument("--output", type=Path, help="folder to write: images/, *.json, base/, vilt/")
    parser.add_argument("--train_images", type=whole_number(1), default=1000)
    parser.add_argument("--val_images", type=whole_number(1), default=50)
    parser.add_argument("--test_images", type=whole_number(1), default=150)
    parser.add_argument("--dialect", choices=("plain", "team"), default="team", help="whose words the answers use")
    parser.add_argument(
        "--wrong_answers", type=share, default=0.0, help="share of the training answers to replace by other valid ones"
    )
    parser.add_argument(
        "--look", choices=("plain", "shifted"), default="plain", help="shifted: other light, stains, blur and grain"
    )
    parser.add_argument(
        "--descriptions",
        action="store_true",
        help="write describe_*.json as well: of each picture a description of all that is on it, in plain words",
    )
    parser.add_argument(
        "--counterfactual",
        action="store_true",
        help="write counterfactual_test.json as well: one question on two scenes that differ in the one thing asked",
    )
    parser.add_argument(
        "--label",
        metavar="NAME",
        help="write NAME under `source` in each record, to tell the scores of data sets apart",
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.output is None:  # after argparse has had its say on the others: a mistyped --output is one of them
        parser.error("--output must be given")
    write(options)
    return 0


def write(options: argparse.Namespace) -> None:
    """Write images, conversations and the base models: one that generates answers, one that chooses them."""
    from vlm_lit.workbench.dataset import NOTE, PAIRS_FILE
    from vlm_lit.workbench.dataset import write as write_dataset
    from vlm_lit.workbench.objects import OBJECTS_FILE

    target: Path = options.output
    if target.exists() and any(target.iterdir()):
        raise ConfigError(f"{target} exists and is not empty. Name another --output, or remove it first.")
    write_dataset(
        target,
        train_images=options.train_images,
        val_images=options.val_images,
        test_images=options.test_images,
        seed=options.seed,
        dialect=options.dialect,
        wrong_answers=options.wrong_answers,
        look=options.look,
        descriptions=options.descriptions,
        label=options.label,
        counterfactual=options.counterfactual,
        bases=True,
    )
    described = "describe_*.json, " if options.descriptions else ""
    described += f"{PAIRS_FILE}, " if options.counterfactual else ""
    varied = f"{NOTE} on what was varied, " if (target / NOTE).exists() else ""
    print(
        f"Written to {target}: images/, train.json, val.json, test.json, {OBJECTS_FILE} (the words for each object), "
        f"{described}{varied}and the models in base/ and vilt/"
    )
