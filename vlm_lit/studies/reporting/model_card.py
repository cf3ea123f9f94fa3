"""Model card of a merged model: where it comes from, what it saw, what it scored, how to load it.

Everything is read from the files a run leaves. No path of the machine it ran on is shown: of a local file its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, Final

import yaml

from vlm_lit.files.strict_json import parse_json, read_json
from vlm_lit.files.strict_yaml import read_strict
from vlm_lit.studies.estimates.statistics import mean_interval

_SPLITS: Final = ("train", "val", "test")
_SAME_MEAN: Final = 1e-9
_REMEDY: Final = "Restore it, or merge from a copy of adapter/."
_LOCAL_ENDINGS: Final = (".json", ".jsonl", ".parquet", ".arrow")


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """What a run left, as far as it is there.

    Args:
        fingerprint: the adapter's.
        config: settings of `fit`.
        results: measured on the test split.
        predictions: its judged answers.
    """

    fingerprint: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    predictions: Sequence[Mapping[str, Any]] = ()


def read_run(adapter: Path, fingerprint: Mapping[str, Any]) -> RunFiles:
    """The files beside an adapter in its run directory; an adapter that was moved has none.

    Raises:
        VlmLitError: one of them is damaged.
    """
    config, results, answers = (adapter.parent / name for name in ("config.yaml", "results.json", "predictions.jsonl"))
    lines = enumerate(answers.read_bytes().splitlines() if answers.is_file() else [], 1)
    return RunFiles(
        fingerprint=fingerprint,
        config=_mapping(read_strict(config, "config") if config.is_file() else {}),
        results=_mapping(read_json(results, remedy=_REMEDY, any_value=True) if results.is_file() else {}),
        predictions=[
            _mapping(parse_json(line, f"{answers}, line {number}", remedy=_REMEDY, any_value=True))
            for number, line in lines
            if line.strip()
        ],
    )


def _mapping(content: object) -> Mapping[str, Any]:
    return content if isinstance(content, Mapping) else {}


def model_card(run: RunFiles, *, name: str, dtype: str, merged: Sequence[str], chat_template: bool) -> str:
    """The README.md of a merged model.

    Args:
        run: the files of the run it comes from.
        name: what the page and its code call the model: a hub id or a folder's name.
        dtype: dtype of the merged weights.
        merged: sentences on how the merged model compares with base and adapter.
        chat_template: whether the processor has one, so that messages can be given to it.
    """
    sections = {
        "": [f"{_base_words(run)} was fine-tuned with vlm_lit."],
        "Use": _loading(run, name, chat_template=chat_template),
        "Data": _data(run),
        "Training": _training(run),
        "Results": _results(run),
        "Merging": [f"The adapter was merged in float32 and rounded once to {dtype}.", *merged],
        "Versions": _versions(run),
    }
    text = "\n\n".join(
        "\n\n".join([f"## {title}" if title else f"# {name.rsplit('/', 1)[-1]}", *parts])
        for title, parts in sections.items()
        if parts
    )
    return f"---\n{yaml.safe_dump(front_matter(run), sort_keys=False, allow_unicode=True)}---\n\n{text}\n"


def front_matter(run: RunFiles) -> dict[str, object]:
    """What the hub reads. A base or a data set that is not on the hub has no place in it."""
    base = run.fingerprint["base"]
    found: dict[str, object] = {}
    if not base.get("weights_sha256"):
        found |= {"base_model": base["model_id"], "base_model_relation": "finetune"}
    found |= {"library_name": "transformers", "pipeline_tag": _tag(run)}
    sources = [source["path"] for _, source in _sources(run) if not _is_local(source["path"])]
    if sources:
        found["datasets"] = sorted(set(sources))
    return found | {"tags": ["vlm_lit", *_methods(run)]}


def _tag(run: RunFiles) -> str:
    return "visual-question-answering" if "answers" in run.fingerprint else "image-text-to-text"


def _methods(run: RunFiles) -> list[str]:
    parts = run.fingerprint.get("parts", {}).values()
    lora = any(part["training"] == "lora" for part in parts)
    quantized = any(part["training"] == "lora" and part["precision"] in ("nf4", "fp4") for part in parts)
    return (["lora"] if lora else []) + (["qlora"] if quantized else [])


def _base_words(run: RunFiles) -> str:
    base = run.fingerprint["base"]
    if base.get("weights_sha256"):
        digests = "; ".join(f"SHA-256 of `{name}`: `{digest}`" for name, digest in base["weights_sha256"].items())
        return f"A local model, `{_name(base['model_id'])}` ({digests}),"
    revision = f", revision `{base['revision']}`" if base.get("revision") else ""
    commit = f", commit `{base['commit']}`" if base.get("commit") else ""
    return f"[{base['model_id']}](https://huggingface.co/{base['model_id']}){revision}{commit}"


def _loading(run: RunFiles, name: str, *, chat_template: bool) -> list[str]:
    base = run.fingerprint["base"]
    base_name = base["model_id"] if not base.get("weights_sha256") else _name(base["model_id"])
    revision = f', revision="{base["commit"]}"' if base.get("commit") else ""
    settings = (run.fingerprint.get("processor") or {}).get("image_settings")
    # The merged model's files hold the run's image settings; the base's do not.
    if "answers" in run.fingerprint:  # its base has another head, which PEFT alone does not put there
        return [_USE_CLASSIFIER.replace("{name}", name), *_images(run, name)]
    otherwise = f", with the processor above: the run set {json.dumps(settings)} for its images" if settings else ""
    return [
        _USE.format(name=name, inputs=_MESSAGES if chat_template else _PLAIN),
        *_images(run, name),
        f"The adapter that the run wrote also loads alone, onto the base{otherwise}:",
        _PEFT.format(base=base_name, revision=revision),
    ]


def _images(run: RunFiles, name: str) -> list[str]:
    """How to get the pixels of the training: what `AutoProcessor` takes depends on what is installed."""
    processor = run.fingerprint.get("processor") or {}
    if "image_backend" not in processor:
        return []
    libraries = " and ".join(f"{library} {version}" for library, version in processor["image_libraries"].items())
    return [
        f"In training, images were prepared by `{processor['image_processor_class']}` ({libraries}). `AutoProcessor` "
        "takes torchvision's image processor where torchvision is installed and Pillow's elsewhere, and their pixels "
        "differ a little. This takes the one of the training:",
        _BACKEND.format(name=name, backend=processor["image_backend"]),
    ]


_MESSAGES: Final = """\
messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
inputs = processor(text=prompt, images=[image], return_tensors="pt")"""

_PLAIN: Final = 'inputs = processor(text="<image>" + question, images=[image], return_tensors="pt")'

_USE: Final = """\
```python
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{name}", dtype="auto")
processor = AutoProcessor.from_pretrained("{name}")
image = Image.open("picture.png").convert("RGB")
question = "What is in this picture?"
{inputs}
output = model.generate(**inputs.to(model.device, model.dtype), max_new_tokens=64)
print(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""

_USE_CLASSIFIER: Final = """\
```python
from PIL import Image
from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor

model = AutoModelForVisualQuestionAnswering.from_pretrained("{name}", dtype="auto")
processor = AutoProcessor.from_pretrained("{name}")
image = Image.open("picture.png").convert("RGB")
inputs = processor(text="What is in this picture?", images=image, truncation=True, max_length=40, return_tensors="pt")
logits = model(**inputs).logits
print(model.config.id2label[int(logits.argmax(-1))])
```"""

_BACKEND: Final = """\
```python
from transformers import AutoImageProcessor

processor.image_processor = AutoImageProcessor.from_pretrained("{name}", backend="{backend}")
```"""

_PEFT: Final = """\
```python
from peft import PeftModel
from transformers import AutoModelForImageTextToText

base = AutoModelForImageTextToText.from_pretrained("{base}"{revision}, dtype="auto")
model = PeftModel.from_pretrained(base, "adapter")
```"""


def _sources(run: RunFiles) -> Iterator[tuple[str, Mapping[str, Any]]]:
    data = (run.config.get("data") or {}).get("init_args") or {}
    for split in _SPLITS:
        if data.get(split):
            paths = data[split]["path"]
            for path in paths if isinstance(paths, list) else [paths]:
                yield split, {**data[split], "path": path}


def _is_local(path: str) -> bool:
    spelled = path.endswith(_LOCAL_ENDINGS) or path.startswith((".", "/", "~")) or path.count("/") > 1 or "\\" in path
    return spelled or Path(path).exists()  # a folder `data/saved` reads like a hub id


def _name(path: str) -> str:
    return PureWindowsPath(path).name  # which knows both slashes


def _data(run: RunFiles) -> list[str]:
    rows = []
    for used_for, source in _sources(run):
        name = _name(source["path"]) if _is_local(source["path"]) else source["path"]
        split = source.get("split") if not _is_local(source["path"]) else None
        records = f"first {source['limit']}" if source.get("limit") else "all"
        shown = (source.get("name"), split, source.get("revision"), records)
        rows.append((used_for, f"`{name}`", *(str(value or "-") for value in shown)))
    if not rows:
        return []
    asked = (run.config.get("data") or {}).get("init_args") or {}
    words = [f"{key.capitalize()}: `{asked[key]}`" for key in ("system", "prompt") if asked.get(key)]
    return [_table(("used for", "source", "configuration", "split", "revision", "records"), rows), *words]


def _training(run: RunFiles) -> list[str]:
    settings = (run.config.get("model") or {}).get("init_args") or {}
    usual = settings.get("learning_rate")
    rows = []
    for part, asked in run.fingerprint.get("parts", {}).items():
        rate = (asked.get("learning_rate") or usual or "-") if asked["training"] != "frozen" else "-"
        rows.append((part, asked["precision"], asked["training"], str(rate)))
    if not rows:
        return []
    lora = run.fingerprint.get("lora") or {}
    layers = ", ".join(lora.get("leaves") or lora.get("targets") or [])
    if lora.get("last_share", 1) < 1:
        layers += f" in the last {lora['last_share']:.3g} of the decoder layers"
    words = f"LoRA: rank {lora['rank']}, alpha {lora['alpha']:g}, dropout {lora['dropout']:g}, on {layers}."
    words = " ".join([words, *_kind(lora)])
    table = _table(("part", "precision in training", "training", "learning rate"), rows)
    return [table, words] if any(row[2] == "lora" for row in rows) else [table]


_STARTS: Final = {"pissa": "PiSSA", "loftq": "LoftQ", "eva": "EVA"}


def _kind(lora: Mapping[str, Any]) -> Iterator[str]:
    """What an adapter has that plain LoRA has not, in words."""
    if lora.get("scaling") == "rank_stabilised":
        yield "Its scale is alpha / sqrt(rank) (rank-stabilised)."
    if lora.get("dora"):
        yield "Magnitudes are learned apart (DoRA)."
    if lora.get("start") in _STARTS:
        yield f"Its start is {_STARTS[lora['start']]}'s."
    if "b_lr_ratio" in lora:
        yield f"B had {lora['b_lr_ratio']:g} times A's learning rate (LoRA+)."
    for setting in ("ranks", "alphas"):
        if lora.get(setting):
            yield f"Other {setting} by layer: " + ", ".join(f"`{k}` {v:g}" for k, v in lora[setting].items()) + "."


def _results(run: RunFiles) -> list[str]:
    metrics = run.results.get("metrics") or {}
    if not metrics:
        return []
    rows = [(f"`{name}`", f"{value:.4f}", *_interval(run, value, name)) for name, value in metrics.items()]
    return [
        _table(("metric", "value", "95 % interval", "answers", "images"), rows),
        f"Measured on {run.results.get('n')} records of the {run.results.get('split')} split at step "
        f"{run.results.get('global_step')}, before merging, with the parts stored as they were in training. Intervals "
        "are clustered by image and hold no training noise.",
    ]


def _interval(run: RunFiles, value: float, name: str) -> tuple[str, str, str]:
    """The interval of a metric that the answers' scores are of: the run's first, and its breakdowns."""
    metric, _, group = name.partition("/")
    rows = [p for p in run.predictions if p.get("score") is not None and (not group or group in _groups(p))]
    clusters = [str(p.get("image_id") or p.get("image") or p["id"]) for p in rows]
    if metric != next(iter(run.results["metrics"])) or len(set(clusters)) < 2:
        return "-", "-", "-"
    found = mean_interval([float(p["score"]) for p in rows], clusters)
    if abs(found.mean - value) > _SAME_MEAN:  # the answers are of another evaluation than the results
        return "-", "-", "-"
    return f"{found.low:.4f} to {found.high:.4f}", str(found.n), str(found.n_clusters)


def _groups(prediction: Mapping[str, Any]) -> set[str]:
    """As metrics call them: the official answer types by themselves, others as group/value."""
    return {value if key == "answer_type" else f"{key}/{value}" for key, value in prediction["groups"].items()}


def _versions(run: RunFiles) -> list[str]:
    rows = sorted((run.fingerprint.get("versions") or {}).items())
    return [_table(("library", "version in training"), rows)] if rows else []


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
