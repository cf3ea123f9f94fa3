"""`pairs`: make preference pairs of what a model says itself, each of its answers judged by a metric."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vlm_lit.commands.early_check import check
from vlm_lit.commands.lightning_verb import ended
from vlm_lit.commands.options import OptionParser, whole_number
from vlm_lit.commands.score import metric_options
from vlm_lit.errors import ConfigError, VlmLitError, nearest
from vlm_lit.metrics.catalogue import said_options

if TYPE_CHECKING:
    from vlm_lit.commands.sampled_run import SampledRun
    from vlm_lit.models.sampling import SamplingSettings
    from vlm_lit.schema import Conversation
    from vlm_lit.training.pairing.answers_file import AnswersFile, SampledAnswer

_OWN: Final = (
    "--output", "--split", "--metric", "--samples", "--temperature", "--top_p", "--seed", "--margin",
    "--pairs_per_question", "--length_ratio",
)  # fmt: skip
_EPILOG: Final = """Takes the config files and overrides of predict: predict --help lists them. The questions are those
of data.init_args.predict, or of another split by --split; --from takes a run's model. Every answer is kept beside the
output (pairs.jsonl: pairs.answers.jsonl) as soon as it is there: the same command goes on where it was stopped, and
with another --metric, --margin or --length_ratio it samples nothing anew. A metric's own options are given as
--options.NAME VALUE: score --help lists them. PreferenceDataModule and TRL's DPOTrainer read the output."""


def _parser(verb: str) -> OptionParser:
    parser = OptionParser(verb, description=__doc__, epilog=_EPILOG)
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to write: .jsonl, or .json")
    parser.add_argument(
        "--split", choices=("predict", "train", "val", "test"), default="predict", help="whose questions are asked"
    )
    parser.add_argument("--metric", default="vqa_accuracy", metavar="NAME", help="what answers are judged by")
    parser.add_argument("--samples", type=whole_number(2), default=8, help="answers a question")
    parser.add_argument("--temperature", type=float, default=1.0, help="below 1, likely tokens are drawn more often")
    parser.add_argument(
        "--top_p", type=float, default=1.0, help="draw from the likeliest tokens that sum to this; 1 draws from all"
    )
    parser.add_argument("--seed", type=int, default=0, help="what the draws follow from")
    parser.add_argument("--margin", type=float, default=0.0, help="least difference of two scores")
    parser.add_argument("--pairs_per_question", type=whole_number(1), default=1, help="most pairs a question")
    parser.add_argument(
        "--length_ratio", type=float, metavar="R", help="most times as many tokens that the longer answer may have"
    )
    return parser


def run(verb: str, arguments: Sequence[str]) -> int:
    """Sample, judge, pair and write; the exit status.

    Raises:
        VlmLitError: whatever `predict` would refuse, a question that cannot be judged, or no pair at all.
    """
    rest, options = metric_options(arguments)
    parser = _parser(verb)
    asked, of_predict = parser.parse_known_args(rest)
    for word in of_predict:  # predict would name its own options only
        near = nearest(word.partition("=")[0], _OWN, cutoff=0.75) if word.startswith("--") else None
        if near:
            parser.error(f"{word} is not an option. Did you mean {near}?")
    if asked.output is None:
        parser.error("--output must be given")
    if asked.output.suffix not in (".json", ".jsonl"):
        parser.error(f"--output {asked.output} must end with .jsonl or .json")
    check("predict", of_predict)
    lines: list[str] = []
    # The libraries print where they like; standard output is for the report alone.
    with redirect_stdout(sys.stderr):
        status = ended(lambda: lines.extend(_made(asked, options, of_predict)))
    if status:
        print(f"The answers so far are in {_answers_path(asked.output)}; the same command goes on.", file=sys.stderr)
    print("".join(f"{line}\n" for line in lines), end="")
    return status


def _answers_path(output: Path) -> Path:
    return output.with_suffix(".answers.jsonl")


def _made(asked: argparse.Namespace, options: Mapping[str, str], of_predict: Sequence[str]) -> list[str]:
    """Make and write the pairs; the report, empty in a process that is not the first."""
    from vlm_lit.commands.process_rules import refusing
    from vlm_lit.commands.sampled_run import SampledRun
    from vlm_lit.models.sampling import SamplingSettings
    from vlm_lit.training.pairing.answers_file import AnswersFile
    from vlm_lit.training.pairing.choosing import PairSettings
    from vlm_lit.training.pairing.making import judging_rule, made_pairs
    from vlm_lit.training.pairing.pair_records import PairsFile

    settings = PairSettings(margin=asked.margin, pairs=asked.pairs_per_question, length_ratio=asked.length_ratio)
    sampling = SamplingSettings(temperature=asked.temperature, top_p=asked.top_p, seed=asked.seed)
    with refusing():
        run = SampledRun(of_predict, asked.split)
        judge = judging_rule(asked.metric, said_options(asked.metric, options), _questions(run))
        kept = AnswersFile(_answers_path(asked.output), run.sampled_with(sampling))
        answers = _sampled(run, sampling, kept, asked.samples)
    if not run.trainer.is_global_zero:
        return []
    file, tokenizer = PairsFile(asked.output), run.questions.encoder.tokenizer
    try:
        pairs, report = made_pairs(_questions(run), answers, judge, settings, tokenizer, file.in_files)
        lines = report.lines(judge.name)
        if not pairs:
            print("\n".join(lines), file=sys.stderr)
            raise VlmLitError(
                "No pair could be made; the counts above say why. Draw more answers (--samples), or other ones "
                "(--temperature), or let pairs differ less or more (--margin, --length_ratio)."
            )
        in_full = file.write(pairs, judge.name)
    except OSError as error:
        raise ConfigError(f"--output {asked.output} cannot be written: {error.strerror}. Name another file.") from error
    note = ["Pictures lie elsewhere and are named in full: read it with image_root: /"] if in_full else []
    return [*lines, *note, f"Written to {asked.output}; all answers are in {kept.path}"]


def _questions(run: SampledRun) -> Iterator[Conversation]:
    """What is asked, one after another: a table's records hold their pictures."""
    items = run.questions.asked("predict")
    return (items[i] for i in range(len(items)))


def _sampled(run: SampledRun, sampling: SamplingSettings, kept: AnswersFile, samples: int) -> list[SampledAnswer]:
    """The answers to all questions, those that are not there yet sampled now."""
    from vlm_lit.data.answers.samples import sample_name
    from vlm_lit.training.callbacks.sampled_answers import SampledAnswers
    from vlm_lit.training.pairing.pair_records import prompt_key

    prompts = {one.id: prompt_key(one) for one in _questions(run)}
    there = {sample_name(answer.id, answer.sample) for answer in _fitting(kept, prompts, samples)}
    missing = len(prompts) * samples - len(there)
    if there:
        print(f"{len(there):,} answers are in {kept.path}, {missing:,} to sample.", flush=True)
    if missing:
        run.questions.ask_for_samples(samples, there)
        run.sample(sampling, SampledAnswers(kept, prompts))
    return _fitting(kept, prompts, samples)


def _fitting(kept: AnswersFile, prompts: Mapping[str, str], samples: int) -> list[SampledAnswer]:
    """The kept answers to these questions as they are asked now, each once."""
    found = {(one.id, one.sample): one for one in kept.read() if prompts.get(one.id) == one.prompt}
    return [one for one in found.values() if one.sample < samples]
