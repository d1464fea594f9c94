"""The check of a run: a trial of every step of the run, in minutes, before it takes days.

MMEngine's Runner trains a few steps of the run's own config on a few samples, validates and saves a
checkpoint. Then a model file is written, opened as a prediction opens it, and predicts a segment.
A run that cannot work ends here, with one error. The training job begins with this check, on its
own device and lists; `start_check` calls it before the first job of a workflow.
"""

import contextlib
import copy
import gc
import logging
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from mmaction.registry import DATASETS
from torch.utils.data import Dataset

from epic100.base.errors import EpicError
from epic100.base.ranks import rank
from epic100.base.stop import GO_ON, Stopped
from epic100.model.forward import bare, open_model
from epic100.model.model_file import Pairs, load_model, save_model
from epic100.model.views import view_pipeline
from epic100.model.weights import fit_weights, read_weights
from epic100.training.loop import ShortRunner
from epic100.training.plan import TrainingPlan
from epic100.training.recipe import Changes, Recipe, changed, present
from epic100.training.run import MODEL, checkpoints
from epic100.training.state import trained_model
from epic100.training.table import StartTable, TrialResult, start_table

log = logging.getLogger(__name__)

# A trial reads this many segments of each list.
SAMPLES = 4
# Before the first job, a step on the CPU takes at most this many segments: the machine may be a
# login node, which others use, too.
BATCH_BEFORE_JOBS = 2
# A checkpoint is this many times as large as the weights: it also has two moments of Adam and the
# average.
CHECKPOINT_FACTOR = 4
# A message quotes at most this many characters of another library's error.
MESSAGE_LENGTH = 300
MEMORY_ADVICE = (
    "raise `train: accumulate:` (the batch in more parts, the same result), or lower `batch_size`"
)
# A trial is too short for the warm-up of the rate, and the full rate could make its loss infinite.
TRIAL_RATE = 0.0
# Before the first job, one process tries the run of several.
ONE_PROCESS: Changes = {"launcher": "none", "model_wrapper_cfg": None}
# A trial writes nothing for TensorBoard or another tracker.
NO_TRACKER: Changes = {"visualizer": {"type": "Visualizer"}, "vis_backends": None}


class UnreadableClips(EpicError):
    """The clips of a trial cannot be read."""


@DATASETS.register_module()
class FewSamples(Dataset):
    """A dataset that repeats a few samples of another dataset, which it reads once.

    Args:
        of: Type of the other dataset.
        length: Number of samples that this dataset claims to have.
        samples: Number of samples to read, evenly spaced.
        **dataset: The other dataset's arguments.

    Raises:
        UnreadableClips: A sample cannot be read.

    Attributes:
        samples: The samples.
        seconds: Seconds to read one of them.
    """

    def __init__(self, of: str, length: int, samples: int = SAMPLES, **dataset: Any) -> None:
        """Read the samples."""
        original = DATASETS.build({"type": of, **dataset})
        self.length = length
        self.metainfo = original.metainfo
        indices = np.linspace(0, len(original) - 1, min(samples, len(original))).astype(int)
        started = time.perf_counter()
        try:
            self.samples = [original[int(index)] for index in indices]
        except EpicError as error:
            raise UnreadableClips(str(error)) from error
        self.seconds = (time.perf_counter() - started) / len(indices)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the samples stay the same."""

    def __len__(self) -> int:
        """Return the number of samples that this dataset claims to have."""
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a copy of a sample; the model may change its labels in place to mix clips."""
        return copy.deepcopy(self.samples[index % len(self.samples)])


def check(
    plan: TrainingPlan,
    train: pd.DataFrame,
    pairs: Pairs,
    classes: tuple[int, int],
    *,
    modules: Sequence[str] = (),
    views: tuple[int, int | str] = (1, 1),
    other_bytes: float = 0,
    before_jobs: bool = False,
    remote_device: str = "",
) -> StartTable:
    """Try each step of a run in a temporary folder, and make the table of the coming training.

    Args:
        plan: The plan of the run.
        train: The segments to train on.
        pairs: The pair table: verb, noun and count.
        classes: Number of verb classes and number of noun classes.
        modules: Names of the user's own modules, which are imported already.
        views: Number of clips and crops of the segment that is predicted.
        other_bytes: Bytes of disk that other jobs of the workflow will need.
        before_jobs: Whether the check comes before the first job. Then it takes one process and, on
            a CPU, a small batch; and it skips the steps if no video can be read yet.
        remote_device: "cuda" or "cpu" if the run will be on another machine, otherwise "".

    Raises:
        EpicError: The run cannot work: its config or start weights do not fit, a step fails, memory
            or disk space are too small, or its model could not be predicted with.
        Stopped: A signal asked to stop.
    """
    folder = Path(plan.config.work_dir) / "preflight"
    try:
        result = _train(plan, pairs, classes, folder, other_bytes, before_jobs)
        if rank() == 0 and not result.read_error:
            _predict(plan, folder / MODEL, modules, views)
    except Stopped as error:
        # The message begins with the signal, as `SIGTERM came: ...`. The rest is left out, as it
        # may name a checkpoint of the trial, which is removed below.
        signal_name = str(error).partition(" came")[0]
        raise Stopped(
            f"{signal_name} came while the run was tried: stopped before its first step; {GO_ON}"
        ) from error
    except Exception as error:
        # Any library may raise any error about settings that it cannot take. Another error of our
        # own code is a bug, and advice about the settings would mislead.
        if isinstance(error, EpicError) or is_ours(error):
            raise
        log.error(traceback.format_exc())
        raise EpicError(_advice(error, plan)) from error
    finally:
        # Objects of the runner refer to each other, so only the collector frees their GPU memory.
        gc.collect()
        torch.cuda.empty_cache()
        if rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)
    if not remote_device:
        _require_memory(result)
    return start_table(result, train, pairs, classes, remote_device)


def _train(
    plan: TrainingPlan,
    pairs: Pairs,
    classes: tuple[int, int],
    folder: Path,
    other_bytes: float,
    before_jobs: bool,
) -> TrialResult:
    """Train a few steps, validate, and save a checkpoint and a model file in `folder`.

    `check` says what the arguments are.

    Returns:
        The measurements; without those of the steps if no clip can be read before the first job.

    Raises:
        EpicError: Start weights do not fit the model, the disk is too small, or no clip can be read
            in the training job.
        Stopped: A signal asked to stop.
    """
    started = time.perf_counter()
    if plan.placement.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    config = _trial_config(plan, folder, before_jobs)
    runner = ShortRunner.from_cfg(config)
    model = bare(runner.model)
    weights = config.load_from
    result = TrialResult(
        plan=plan,
        parameters=sum(p.numel() for p in model.parameters()),
        weights=fit_weights(weights, read_weights(weights), model) if weights else "",
        disk=_require_disk(plan, model, other_bytes),
        is_transformer=any("Attention" in type(module).__name__ for module in model.modules()),
    )
    try:
        # The property builds the loader, which reads the clips.
        loop = runner.train_loop
        with saved_for_backward(model) as storage_bytes:
            runner.train()
    except UnreadableClips as error:
        # Before the first job, videos may still have to be downloaded. The training job needs them.
        if not before_jobs:
            raise
        return replace(result, read_error=str(error))
    # The loop stops at the end of a step. A signal that came later is still to be obeyed.
    if loop.signals.requested:
        raise Stopped(f"{loop.signals.requested} came")
    if rank() == 0:
        save_model(
            trained_model(runner, plan.config, pairs, classes, trained_on={}), folder / MODEL
        )
    few_samples = loop.dataloader.dataset
    return replace(
        result,
        loss=loop.loss,
        seconds=time.perf_counter() - started,
        # The trial's batch may be smaller than that of the run.
        step_seconds=loop.computed * plan.batch_per_process / loop.dataloader.batch_size,
        load_seconds=few_samples.seconds,
        memory=torch.cuda.max_memory_allocated(),
        # A second step may reuse addresses of the first, so only a single step can be counted.
        activations=(
            sum(storage_bytes.values()) / loop.dataloader.batch_size
            if runner.max_iters == 1
            else 0.0
        ),
        shape=tuple(few_samples.samples[0]["inputs"].shape),
    )


def _trial_config(plan: TrainingPlan, folder: Path, before_jobs: bool) -> Recipe:
    """Make the config of a trial: the run's config, but for a few steps, in `folder`."""
    on_gpu = plan.placement.device == "cuda"
    train_batch = plan.batch_per_process
    # The last step is timed. In the first one, a GPU also chooses its kernels.
    steps = 4 if on_gpu else 2
    if before_jobs and not on_gpu:
        train_batch = min(train_batch, BATCH_BEFORE_JOBS)
        steps = 1
    changes: Changes = {
        **NO_TRACKER,
        **(ONE_PROCESS if before_jobs else {}),
        "work_dir": str(folder),
        # Runners of the same name would share their logger and messages in MMEngine.
        "experiment_name": f"preflight_{time.time_ns()}",
        "default_hooks.checkpoint.go_on": False,
        "default_hooks.telemetry.bar": False,
        "train_cfg.max_epochs": 1,
        "train_cfg.val_interval": 1,
        "train_cfg.val_begin": 1,
        "train_dataloader.sampler": {"type": "DefaultSampler", "shuffle": False},
        "optim_wrapper.optimizer.lr": TRIAL_RATE,
    }
    processes = 1 if before_jobs else plan.placement.processes
    batch_sizes = {"train_dataloader": train_batch, "val_dataloader": min(train_batch, SAMPLES)}
    # A validation takes a single batch.
    batches = {"train_dataloader": steps, "val_dataloader": 1}
    for name in present(plan.config, *batch_sizes):
        dataset = plan.config[name].dataset
        changes |= {
            f"{name}.dataset": {
                **dataset,
                "type": "FewSamples",
                "of": dataset.type,
                "length": batch_sizes[name] * batches[name] * processes,
            },
            f"{name}.batch_size": batch_sizes[name],
            f"{name}.num_workers": 0,
            f"{name}.persistent_workers": False,
            f"{name}.prefetch_factor": None,
        }
    return changed(plan.config, changes)


def _require_disk(plan: TrainingPlan, model: torch.nn.Module, other_bytes: float) -> str:
    """Require enough free disk space for the rest of the run, and return a line about it.

    Args:
        plan: The plan of the run.
        model: The model, whose weights each checkpoint has.
        other_bytes: Bytes of disk that other jobs of the workflow will need.

    Returns:
        `9.0 GB free in FOLDER; this run needs about 0.2 GB`.

    Raises:
        EpicError: Less is free than the run needs.
    """
    weight_bytes = sum(
        value.numel() * value.element_size() for value in model.state_dict().values()
    )
    work_dir = Path(plan.config.work_dir)
    saved_bytes = sum(path.stat().st_size for path in checkpoints(work_dir))
    # The best checkpoint, and one that is being written, come on top of those that are kept.
    run_bytes = (plan.config.default_hooks.checkpoint.keep + 2) * CHECKPOINT_FACTOR * weight_bytes
    needed = max(0, run_bytes + other_bytes - saved_bytes)
    free = shutil.disk_usage(work_dir).free
    # The work directory is `results/work_dirs/RUN/ATTEMPT`.
    text = (
        f"{free / 1e9:.1f} GB free in {work_dir.parents[2]}; this run needs about "
        f"{needed / 1e9:.1f} GB"
    )
    if free < needed:
        raise EpicError(f"{text}; free some space, or choose another folder with --directory")
    return text


@contextlib.contextmanager
def saved_for_backward(model: torch.nn.Module) -> Iterator[dict[int, int]]:
    """Count the bytes that forward passes keep for their backward passes, without the weights.

    Yields:
        A dict that is filled during the block: the bytes of each storage, by its address. A storage
        that several tensors share counts once.
    """
    # `_cdata` is the address of the object in C++ that is the storage.
    weight_addresses = {value.untyped_storage()._cdata for value in model.parameters()}
    storage_bytes: dict[int, int] = {}

    def note_storage(tensor: torch.Tensor) -> torch.Tensor:
        """Note the storage of a tensor that a forward pass keeps, and keep it as it is."""
        storage = tensor.untyped_storage()
        if storage._cdata not in weight_addresses:
            storage_bytes[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note_storage, lambda tensor: tensor):
        yield storage_bytes


def _require_memory(result: TrialResult) -> None:
    """Raise EpicError if a step on this machine's CPU needs more memory than the machine has.

    Only a trial before the first job measures the activations; otherwise they are 0.
    """
    total = psutil.virtual_memory().total
    needed = result.plan.micro_batch * result.activations * result.plan.placement.on_node
    if needed > total:
        raise EpicError(
            f"a step of {result.plan.micro_batch} segments keeps {needed / 2**30:.0f} GiB for its "
            f"backward pass and this machine has {total / 2**30:.0f} GiB; {MEMORY_ADVICE}"
        )


def _predict(
    plan: TrainingPlan, file: Path, modules: Sequence[str], views: tuple[int, int | str]
) -> None:
    """Predict one segment with the trial's model file, as the start of a real prediction does."""
    compute, pipeline = open_model(
        load_model(file), str(file), plan.placement.device, max_batch_size=1, modules=modules
    )
    train_dataset = plan.config.train_dataloader.dataset
    segment = FewSamples(
        of="EpicSegmentVideoDataset",
        length=1,
        samples=1,
        part=SAMPLES,
        ann_file=train_dataset.ann_file,
        data_root=train_dataset.data_root,
        index_dir=train_dataset.index_dir,
        test_mode=True,
        pipeline=view_pipeline(pipeline, *views),
    )[0]
    compute([segment["inputs"]])


def is_ours(error: BaseException) -> bool:
    """Whether our own code raised the error, so that no other setting would help.

    The packages `clips` and `model` and the hooks do not count as our own here: a config builds
    their classes, and their errors may be about the arguments in the config.
    """
    # The last frame of a traceback is the one that raised the error.
    innermost_frame, _ = list(traceback.walk_tb(error.__traceback__))[-1]
    names = str(innermost_frame.f_globals.get("__name__")).split(".")
    return names[0] == "epic100" and names[1] not in ("clips", "model") and names[-1] != "hooks"


def _advice(error: Exception, plan: TrainingPlan) -> str:
    """Write the message about a trial that failed: its error in one line, and what to change."""
    message = " ".join(str(error).split())[:MESSAGE_LENGTH]
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate" in message:
        return f"a step of {plan.micro_batch} segments does not fit into memory; {MEMORY_ADVICE}"
    # These modules are those of torch's compiler.
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        advice = "set `train: compile: false`"
    else:
        advice = f"correct `train: options:` or {plan.config.filename}"
        if plan.mixing:
            advice += (
                ", or take `model.data_preprocessor.blending` out if its loss takes no mixed labels"
            )
    return (
        f"config: a training step with these settings fails ({type(error).__name__}: {message}); "
        f"expected keys and values that its parts take; {advice}"
    )
