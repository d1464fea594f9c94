"""What a training reports while it runs: `training.tsv`, a bar, advice, and one anonymous page.

The page, `diagnosis.txt`, is made only of numbers, our own words, and names of GPUs, CPUs, packages
and model classes. No text that may contain a path, or the name of a file, host or user, gets into
it, so that it can be sent to the maintainers.
"""

import logging
import os
import platform
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import psutil
import torch
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from epic100.base.atomic import write_text
from epic100.base.errors import DiskError
from epic100.base.log import Progress
from epic100.base.machine import cpu_name, driver_version, usable_cores
from epic100.base.ranks import on_rank_0, rank, world
from epic100.scoring.epoch_table import FILE, TASKS, Row, write_epochs
from epic100.training.hooks import PRIORITIES
from epic100.training.validation import FIGURES

log = logging.getLogger(__name__)

KEY = "history"  # key of the sums in MMEngine's message hub; part of each checkpoint
# Values that MMEngine's log keeps of each figure; more than its averaging windows need. MMEngine
# copies them at every iteration. With its default of a million values, the copy takes 14 ms after
# 630,000 iterations.
KEPT = 1000
PAGE = "diagnosis.txt"
TITLE = (
    "Diagnosis of a training with the EPIC-KITCHENS-100 workflow.\n"
    "It has no paths and no names of files, hosts or users: please attach it to an issue."
)
PACKAGES = ("epic100", "mmengine", "mmaction2", "av", "numpy", "snakemake")


@HOOKS.register_module()
class TelemetryHook(Hook):
    """Report each batch and epoch of a training; `loop` measures the times.

    `training.tsv` in the work directory gets a row after each epoch. `samples_per_s` there covers
    all ranks; `data_share` and `seconds` are rank 0's. Only batches that count are included: work
    that a kill undid is in no row. Rows and sums are in the message hub, so a checkpoint contains
    them, and a resumed run continues from those of its checkpoint.

    The bar shows segments done, segments per second (all ranks), time left, loss and the share of
    this epoch's time spent waiting for data. A resumed run counts only what is left. Where waiting
    is a large share, a warning says so once per epoch.

    Args:
        limit: It warns if at least this share (0 to 1) of the time is spent waiting for data.
        enough: Iterations needed before the share is judged.
        bar: Whether to show the bar, and to log each epoch's row as a sentence.

    Attributes:
        page: The file of the page and its lines about the run, or None. It is written
            before the first step, after each epoch and at the end. It is not in the config, so
            it is in no stamp and in no model file.
    """

    priority = PRIORITIES["TelemetryHook"]

    def __init__(self, limit: float = 0.2, enough: int = 20, bar: bool = True) -> None:
        self.limit, self.enough, self.shown = limit, enough, bar
        self._bar: Progress | None = None
        self._val_bar: Progress | None = None
        self.page: tuple[Path, list[str]] | None = None
        self._before: dict[str, Any] = {}

    def before_run(self, runner: Runner) -> None:
        """Start with empty sums; a resume then restores those of the checkpoint."""
        runner.message_hub.update_info(KEY, _no_sums([]))

    def before_train(self, runner: Runner) -> None:
        """Make table and page match the resumed state; start the bar with what is left."""
        self._write_table(runner, _sums(runner)["rows"])
        self._write_page(runner)
        loader = runner.train_dataloader
        batch = loader.batch_size * world()
        whole = min(len(loader) * batch, len(loader.sampler) * world())
        done = runner.iter - runner.epoch * len(loader)
        left = (runner.max_epochs - runner.epoch) * whole - done * batch
        self._bar = self._bar_of("train", left)

    def before_train_epoch(self, runner: Runner) -> None:
        """Judge the loader anew in each epoch."""
        self._before = {}

    def after_reading(self, runner: Runner) -> None:
        """Add a batch to the epoch's sums, and report it."""
        for buffer in runner.message_hub.log_scalars.values():
            buffer.max_length = min(buffer.max_length, KEPT)
        sums, loop = _sums(runner), runner.train_loop
        sums["lr"] = float(runner.message_hub.get_scalar("train/lr").current())
        sums["batches"] += 1
        sums["samples"] += loop.segments
        sums["loss"] += loop.loss
        sums["waited"] += loop.waited
        sums["seconds"] += loop.waited + loop.computed
        runner.message_hub.update_scalar("train/compute_time", loop.computed)
        if self._bar is not None:
            self._bar.update(
                loop.segments * world(),
                f"epoch {runner.epoch + 1}/{runner.max_epochs}, loss {loop.loss:.4g}, "
                f"data {100 * sums['waited'] / sums['seconds']:.0f} %",
            )
        self._judge(runner, sums)

    def after_whole_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Add the epoch's row and reset the sums."""
        sums = _sums(runner)
        row = {
            "epoch": runner.epoch,
            "iter": runner.iter,
            **{column: metrics.get(name) for column, name in FIGURES.items()},
            **_means(sums),
        }
        rows = [*sums["rows"], row]
        runner.message_hub.update_info(KEY, _no_sums(rows))
        self._write_table(runner, rows)
        self._write_page(runner)
        if self._bar is not None:
            log.info(epoch_line(row, runner.max_epochs))

    def before_val(self, runner: Runner) -> None:
        """Start a bar with the number of segments to validate on."""
        self._val_bar = self._bar_of("validate", len(runner.val_dataloader.dataset))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Advance that bar by one batch."""
        if self._val_bar is not None:
            self._val_bar.update(len(data_batch["data_samples"]) * world())

    def after_val(self, runner: Runner) -> None:
        """Close that bar."""
        if self._val_bar is not None:
            self._val_bar.close()

    def at_end(self, runner: Runner) -> None:
        """Close the bar, and write what was measured, however training ends."""
        if self._bar is not None:
            self._bar.close()
        self._write_page(runner)

    def _bar_of(self, label: str, segments: int) -> Progress | None:
        wanted = self.shown and not rank() and segments > 0
        return Progress(label, segments, "segments") if wanted else None

    def _judge(self, runner: Runner, sums: dict[str, Any]) -> None:
        """Warn if the loader is too slow. The first iteration, which starts it, does not count."""
        before = self._before = self._before or dict(sums)
        count, waited, spent = (sums[key] - before[key] for key in ("batches", "waited", "seconds"))
        if count >= self.enough and waited >= self.limit * spent and not before.get("warned"):
            before["warned"] = True
            cores = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
            workers = runner.train_dataloader.num_workers
            # Not by MMEngine's logger, which leaves out a warning in the words of an earlier epoch.
            if self._bar is not None:
                log.warning(loader_advice(waited / count, spent / count, workers, cores))

    def _write_table(self, runner: Runner, rows: list[Row]) -> None:
        on_rank_0(lambda: write_epochs(rows, Path(runner.work_dir) / FILE))

    def _write_page(self, runner: Runner) -> None:
        if self.page is None:
            return
        path, about = self.page
        sums = _sums(runner)
        rows = list(sums["rows"])
        if sums["batches"]:  # of an epoch that is not over
            rows.append({"epoch": runner.epoch + 1, "action_top1": None, **_means(sums)})
        speed = [epoch_line(row, runner.max_epochs) for row in rows] or ["steps: none yet"]
        lines = [TITLE, "", *machine(), "", *about, "", *speed]
        try:
            write_text(path, "\n".join(lines) + "\n")
        except (OSError, DiskError) as error:  # a page about the training must not end it
            log.warning(f"{path}: not written ({error})")


def write_page_of(runner: Runner, path: Path, about: list[str]) -> None:
    """Let a training write its anonymous page, with these lines about the run."""
    next(hook for hook in runner.hooks if isinstance(hook, TelemetryHook)).page = path, about


def epoch_line(row: dict[str, Any], epochs: int) -> str:
    """Format a row of `training.tsv` as one line of text."""
    parts = [f"loss {row['loss']:.4g}"]
    if row["action_top1"] is not None:
        parts += [f"{task} top-1 {row[f'{task}_top1']:.2f} %" for task in TASKS]
    parts.append(f"{row['samples_per_s']:.1f} segments/s")
    parts.append(f"{100 * row['data_share']:.0f} % of the time waiting for data")
    return f"epoch {row['epoch']}/{epochs}: {', '.join(parts)}"


def loader_advice(waited: float, spent: float, workers: int, cores: int) -> str:
    """Describe a data-loading bottleneck and how to remove it.

    Args:
        waited: Seconds per iteration spent waiting for data.
        spent: Seconds per iteration in total.
        workers: Loader processes of this training process.
        cores: Cores that this training process may use.
    """
    advice = (
        f"{workers} workers use the {cores} cores that this process has: try smaller copies of the "
        "videos (`videos: proxy:`) or ask for more cores"
    )
    if workers + 1 < cores:
        advice = (
            f"raise `train: workers:` from {workers} towards the {cores} cores that this process "
            "has, then try smaller copies of the videos (`videos: proxy:`)"
        )
    return (
        f"the loader is the limit: of {spent:.2f} s an iteration {waited:.2f} s "
        f"({100 * waited / spent:.0f} %) are spent waiting for data, {spent - waited:.2f} s "
        f"computing; {advice}"
    )


@cache
def machine() -> list[str]:
    """Versions of what training depends on; GPUs with their driver, CPU, cores and memory."""
    found = {each.name: each.version for each in distributions()}
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    packages = [f"{name} {found[name]}" for name in PACKAGES if name in found]
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    gpus = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    cores = f"{usable_cores()} of {os.cpu_count()} cores"
    memory = psutil.virtual_memory().total / 2**30
    return [
        f"versions: {', '.join([python, *packages])}",
        f"torch: {torch.__version__}, CUDA {torch.version.cuda or 'none'}, cuDNN {cudnn or 'none'}",
        *(
            f"GPU: {gpu.name}, {gpu.total_memory / 2**30:.1f} GiB, sm_{gpu.major}{gpu.minor}"
            for gpu in gpus
        ),
        *([] if gpus else ["GPU: none"]),
        f"driver: {driver_version() or 'none'}",
        f"CPU: {cpu_name()}, {cores}, {memory:.0f} GiB of memory",
    ]


def _sums(runner: Runner) -> dict[str, Any]:
    return runner.message_hub.get_info(KEY)


def _means(sums: dict[str, Any]) -> dict[str, float]:
    """The figures of a row that follow from the sums of its batches."""
    return {
        "lr": sums["lr"],
        "loss": sums["loss"] / sums["batches"],
        "samples_per_s": sums["samples"] * world() / sums["seconds"],
        "data_share": sums["waited"] / sums["seconds"],
        "seconds": sums["seconds"],
    }


def _no_sums(rows: list[Row]) -> dict[str, Any]:
    sums = {"batches": 0, "samples": 0, "loss": 0.0, "waited": 0.0, "seconds": 0.0, "lr": 0.0}
    return {"rows": rows, **sums}
