"""Tests of borrowed names: every private or young name of another library, with the files that use it.

Such names change without notice. After an upgrade this test lists what has gone and which files to visit. A private
name of another library that is used anywhere without standing here fails as well.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).parent.parent
_SOURCES: Final = [*sorted((_ROOT / "vlm_lit").rglob("*.py")), *sorted((_ROOT / "scripts").rglob("*.py"))]


@dataclass(frozen=True)
class Borrowed:
    """One name of another library.

    Args:
        owner: `module` or `module:Class` in which it is to be found.
        name: the attribute; or words that stand in the owner's source, where `words` is set.
        files: who uses it.
        words: `name` is a text in the owner's source: an attribute that is set in a constructor, or a message.
    """

    owner: str
    name: str
    files: tuple[str, ...]
    words: bool = False

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"[:90]


_LIGHTNING: Final = "vlm_lit/commands/lightning.py"
_PARSING: Final = "vlm_lit/commands/parsing.py"
_STEPS: Final = "vlm_lit/training/callbacks/step_checkpoint.py"
_PASSES: Final = "vlm_lit/training/callbacks/epoch_schedule.py"
_BAR: Final = "vlm_lit/training/callbacks/progress.py"
_POSITION: Final = "vlm_lit/training/position.py"
_MONITORED: Final = "vlm_lit/training/callbacks/monitored.py"
_HPARAMS: Final = "vlm_lit/training/callbacks/hparams_file.py"
_SHAPES: Final = "vlm_lit/models/shapes.py"
_HOLLOW: Final = "vlm_lit/preflight/budget/hollow_module.py"
_COMPILED: Final = "vlm_lit/models/compiled_layers.py"
_KNOWN: Final = "vlm_lit/preflight/budget/known_values.py"
_LEDGER: Final = "vlm_lit/preflight/budget/ledger.py"
_FILES: Final = "vlm_lit/data/checkpoint/processor_files.py"
_BOUNDED: Final = "vlm_lit/data/checkpoint/bounded_template.py"
_PUBLISHED: Final = "vlm_lit/data/checkpoint/published_processors.py"
_PROCESSORS: Final = "vlm_lit/data/checkpoint/processors_without_torchvision.py"
_SETTINGS: Final = "vlm_lit/data/checkpoint/image_settings.py"
_TOKENS: Final = "vlm_lit/data/checkpoint/image_tokens.py"
_CHUNKS: Final = "vlm_lit/models/causal_attention.py"
_FEATURES: Final = "vlm_lit/models/vision_features.py"

_CLI: Final = "lightning.pytorch.cli:LightningCLI"
_TRAINER: Final = "lightning.pytorch.trainer.trainer:Trainer"
_EPOCH_LOOP: Final = "lightning.pytorch.loops.training_epoch_loop:_TrainingEpochLoop"
_TYPEHINTS: Final = "jsonargparse._typehints"
_CORE: Final = "jsonargparse._core"
_CACHED_FILE: Final = "transformers.utils.hub"

BORROWED: Final = (
    # Lightning ---------------------------------------------------------------------------------------------------
    *(Borrowed(_CLI, name, (_LIGHTNING,)) for name in ("_parse_ckpt_path", "_run_subcommand", "_parser", "_get")),
    Borrowed(_EPOCH_LOOP, "self._batches_that_stepped", (_PASSES, _STEPS, _POSITION), words=True),
    *(
        Borrowed("lightning.pytorch.loops.fit_loop", name, (_POSITION,), words=True)
        for name in ("epoch_progress", "epoch_loop")
    ),
    Borrowed("lightning.pytorch.trainer.connectors.checkpoint_connector", "fit_loop", (_POSITION,), words=True),
    Borrowed("lightning.pytorch.loops.fit_loop:_FitLoop", "_results", ("vlm_lit/training/step.py",)),
    Borrowed(_TRAINER, "_checkpoint_connector", (_STEPS,), words=True),
    Borrowed(_TRAINER, "_accelerator_connector", (_STEPS, "vlm_lit/data/step_datamodule.py"), words=True),
    Borrowed(
        "lightning.pytorch.trainer.setup",
        "_val_check_time_interval",
        ("vlm_lit/data/run_length.py",),
        words=True,
    ),
    Borrowed(
        "lightning.pytorch.strategies:ModelParallelStrategy",
        "self._data_parallel_size",
        ("vlm_lit/training/frozen_sharded.py",),
        words=True,
    ),
    Borrowed("lightning.pytorch.tuner.lr_finder", "_LRCallback", ("vlm_lit/data/run_length.py",)),
    Borrowed("lightning.pytorch.callbacks:EarlyStopping", "_check_on_train_epoch_end", (_MONITORED,), words=True),
    Borrowed("lightning.pytorch.callbacks:Timer", "self._interval", (_MONITORED,), words=True),
    Borrowed("lightning.pytorch.callbacks:RichProgressBar", "_init_progress", (_BAR,)),
    Borrowed("lightning.pytorch.callbacks:RichProgressBar", "_get_train_description", (_BAR,)),
    Borrowed("lightning.pytorch.callbacks.progress.rich_progress", "CustomBarColumn", (_BAR,)),
    Borrowed("lightning.pytorch.callbacks.progress.rich_progress", "BatchesProcessedColumn", (_BAR,)),
    Borrowed("lightning.pytorch.utilities.parsing", "collect_init_args", ("vlm_lit/training/hyperparameters.py",)),
    Borrowed("lightning.fabric.utilities.seed", "pl_worker_init_function", ("vlm_lit/data/loaders.py",)),
    Borrowed("lightning_utilities.core.imports", "Requirement ", ("vlm_lit/commands/logger_options.py",), words=True),
    # jsonargparse ------------------------------------------------------------------------------------------------
    Borrowed(f"{_CORE}:ArgumentParser", "_subcommands_action", (_PARSING,), words=True),
    Borrowed("argparse", "_name_parser_map", (_PARSING,), words=True),
    Borrowed(_TYPEHINTS, "_typehint", (_PARSING,), words=True),
    Borrowed("argparse", "_actions", (_PARSING,), words=True),
    *(
        Borrowed(_TYPEHINTS, words, (_PARSING,), words=True)
        for words in (
            "Problem with given class_path",
            "Given value: ",
            "Got value: ",
            "Subclass types",
            "expects a function",
        )
    ),
    *(
        Borrowed(_CORE, words, (_PARSING,), words=True)
        for words in ("is not accepted", "does not accept option", "unrecognized arguments", "Parser key")
    ),
    Borrowed(_CORE, "the following arguments are required", (_PARSING,), words=True),
    Borrowed("jsonargparse._common", "Importing '", (_PARSING,), words=True),
    # transformers ------------------------------------------------------------------------------------------------
    Borrowed("transformers:ProcessorMixin", "_process_images", ("vlm_lit/data/features/stored_images.py",)),
    Borrowed("transformers:ProcessorMixin", "replace_image_token", (_TOKENS,)),
    Borrowed("transformers:LlavaProcessor", "_get_num_multimodal_tokens", (_TOKENS,)),
    Borrowed("transformers:InternVLProcessor", "images_kwargs", (_TOKENS, _SETTINGS)),
    Borrowed("transformers.models.idefics3.image_processing_pil_idefics3", "MAX_IMAGE_SIZE", (_TOKENS,)),
    Borrowed(
        "transformers.models.gemma3.image_processing_pil_gemma3:Gemma3ImageProcessorPil", "pan_and_scan", (_TOKENS,)
    ),
    Borrowed("transformers.image_processing_backends:PilBackend", "_preprocess", (_SETTINGS,)),
    Borrowed("transformers.image_processing_backends", "TorchvisionBackend", (_SETTINGS,)),
    Borrowed("transformers.processing_utils", "ImagesKwargs", (_SETTINGS,)),
    Borrowed("transformers:ProcessorMixin", "_get_arguments_from_pretrained", (_PROCESSORS,)),
    Borrowed("transformers.models.auto.processing_auto", "PROCESSOR_MAPPING_NAMES", (_FILES,)),
    Borrowed("transformers.models.auto.processing_auto", "processor_class_from_name", (_PROCESSORS,)),
    Borrowed("transformers.processing_utils", "VideosKwargs", (_PROCESSORS,)),
    Borrowed("transformers.video_processing_utils", "VideoProcessorMixin", (_PROCESSORS,)),
    *(
        Borrowed(_CACHED_FILE, f"_raise_exceptions_for_{kind}", (_FILES, _PUBLISHED), words=True)
        for kind in ("missing_entries", "connection_errors", "gated_repo")
    ),
    Borrowed(
        "transformers.configuration_utils",
        "_attn_implementation",
        (
            "vlm_lit/models/attention.py",
            "vlm_lit/models/grouped_attention.py",
            "vlm_lit/models/last_layer.py",
            "vlm_lit/models/shortcuts.py",
            "vlm_lit/preflight/budget/hollow_module.py",
            "vlm_lit/training/checkpointed.py",
        ),
        words=True,
    ),
    Borrowed("transformers.configuration_utils", "_commit_hash", ("vlm_lit/training/identity.py",), words=True),
    Borrowed("transformers.utils.chat_template_utils", "_compile_jinja_template", (_BOUNDED,)),
    Borrowed("jinja2.sandbox", "safe_range", (_BOUNDED,)),
    Borrowed("jinja2.sandbox:SandboxedEnvironment", "wrap_str_format", (_BOUNDED,)),
    Borrowed("transformers.utils.logging", "set_tqdm_hook", ("vlm_lit/models/loading_bar.py",)),
    Borrowed("transformers.integrations.bitsandbytes", "replace_with_bnb_linear", (_SHAPES,)),
    Borrowed("transformers.vision_utils", "get_vision_window_index", (_FEATURES,)),
    Borrowed(
        "transformers.models.auto.modeling_auto",
        "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
        ("vlm_lit/models/families.py",),
    ),
    Borrowed("transformers.conversion_mapping", "get_model_conversion_mapping", ("vlm_lit/models/adapter_state.py",)),
    *(
        Borrowed("transformers.core_model_loading", name, ("vlm_lit/models/adapter_state.py",))
        for name in ("WeightRenaming", "rename_source_key")
    ),
    # PEFT, hub, TensorBoard, TRL ---------------------------------------------------------------------------------
    Borrowed("peft.utils.constants", "DUMMY_TARGET_MODULES", ("vlm_lit/models/adapters.py",)),
    Borrowed("peft.tuners.tuners_utils", "BaseTunerLayer", ("vlm_lit/models/merge/merging.py",)),
    Borrowed("datasets:Dataset", "_fingerprint", ("vlm_lit/data/records/record_sequences.py",), words=True),
    Borrowed("huggingface_hub.utils._validators", "validate_repo_id", ("vlm_lit/commands/upload.py",)),
    Borrowed("tensorboard.plugins.hparams.metadata", "create_summary_metadata", (_HPARAMS,)),
    Borrowed("tensorboard.summary.writer.record_writer", "RecordWriter", (_HPARAMS, "vlm_lit/training/run_events.py")),
    *(
        Borrowed("torch.utils.tensorboard.writer:SummaryWriter", name, ("vlm_lit/training/run_events.py",), words=True)
        for name in ("_get_file_writer", "file_writer", "all_writers")
    ),
    Borrowed(
        "torch.utils.tensorboard.writer:FileWriter", "event_writer", ("vlm_lit/training/run_events.py",), words=True
    ),
    # Python --------------------------------------------------------------------------------------------------------
    Borrowed("multiprocessing.queues:Queue", "_on_queue_feeder_error", ("vlm_lit/data/shared_memory.py",)),
    # torch -------------------------------------------------------------------------------------------------------
    Borrowed(
        "torch._subclasses.fake_tensor",
        "FakeTensorMode",
        (
            _SHAPES,
            _HOLLOW,
            "vlm_lit/preflight/budget/estimate.py",
            "vlm_lit/preflight/budget/class_budget.py",
            "vlm_lit/preflight/budget/class_step.py",
        ),
    ),
    Borrowed("torch._subclasses.fake_tensor", "FakeTensor", ("vlm_lit/models/attention.py", _KNOWN)),
    Borrowed("torch._subclasses.fake_tensor", "unset_fake_temporarily", (_KNOWN,)),
    Borrowed("torch._subclasses.fake_tensor", "DataDependentOutputException", ("vlm_lit/preflight/budget/step.py",)),
    *(
        Borrowed("torch:ops.aten", f"_scaled_dot_product_flash_attention_for_cpu{end}", (_CHUNKS,))
        for end in ("", "_backward")
    ),
    Borrowed("torch:ops.mkldnn", "_linear_pointwise", ("vlm_lit/models/frozen_products.py",)),
    Borrowed("torch.utils._python_dispatch", "TorchDispatchMode", (_LEDGER, _KNOWN)),
    Borrowed("torch.utils._pytree", "tree_leaves", (_LEDGER, _KNOWN)),
    Borrowed("torch._dynamo.exc", "BackendCompilerFailed", (_COMPILED,)),
    Borrowed("torch._inductor.config", "fallback_random", (_COMPILED,)),
    Borrowed("torch:UntypedStorage", "_cdata", (_LEDGER,)),
    *(Borrowed("torch.nn:Module", name, (_SHAPES,), words=True) for name in ("_parameters", "_buffers")),
    Borrowed("torch.nn:Module", "_modules", (_HOLLOW,), words=True),
    *(
        Borrowed("torch.distributed.fsdp:FSDPModule", name, ("vlm_lit/models/sharding.py",))
        for name in ("set_custom_all_gather", "reset_iter_state")
    ),
)
_NOT_BORROWED: Final = {
    "vlm_lit/training/rank_links.py": {"_exit"},
    "vlm_lit/data/workers.py": {"_exit"},
    "vlm_lit/studies/running/child_process.py": {"_exit"},  # os._exit, as public as it gets
    "scripts/benchmark/theirs.py": {"_use_triton"},  # TRL, of the extra `bench`; refused there if it has gone
}


def found(borrowed: Borrowed) -> bool:
    """Whether the installed library still has it."""
    module, _, inner = borrowed.owner.partition(":")
    owner: object = importlib.import_module(module)
    if inner:
        owner = attrgetter(inner)(owner)
    if borrowed.words:
        assert inspect.isclass(owner) or inspect.ismodule(owner)
        return borrowed.name in inspect.getsource(owner)
    return hasattr(owner, borrowed.name)


@pytest.mark.parametrize("borrowed", BORROWED, ids=str)
def test_what_is_borrowed_is_still_there(borrowed: Borrowed) -> None:
    assert found(borrowed), f"{borrowed} has gone. Visit {', '.join(borrowed.files)}."


@pytest.mark.parametrize("borrowed", BORROWED, ids=str)
def test_whoever_is_named_uses_it(borrowed: Borrowed) -> None:
    leaf = borrowed.name.removeprefix("self.").strip("'")
    assert [file for file in borrowed.files if leaf not in (_ROOT / file).read_text(encoding="utf-8")] == []


def private_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The private names of others that a file uses: attributes, imports of private modules, `getattr` of a private."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if owner not in ("self", "cls"):
                yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            for part in (node.module or "").split("."):
                if _is_private(part):
                    yield node.lineno, part
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("attr"):
            for argument in node.args[1:2]:
                if isinstance(argument, ast.Constant) and _is_private(str(argument.value)):
                    yield node.lineno, str(argument.value)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("path", _SOURCES, ids=lambda p: str(p.relative_to(_ROOT)))
def test_no_other_private_name_is_used(path: Path) -> None:
    here = str(path.relative_to(_ROOT))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # What a file's own classes define is its own, on whichever object it is asked for.
    own = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    own |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    known = {b.name.removeprefix("self.").split(".")[-1] for b in BORROWED if here in b.files}
    known |= {part for b in BORROWED if here in b.files for part in b.owner.partition(":")[0].split(".")}
    known |= _NOT_BORROWED.get(here, set())
    assert [(line, name) for line, name in private_names(tree) if name not in own | known] == []
