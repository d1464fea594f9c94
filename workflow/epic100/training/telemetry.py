"""What a training reports while it runs.

HistoryHook adds up the figures of each epoch and writes `training.tsv`. LoaderShareHook and
ProgressHook read its sums, so they run after it. Configs and model files name all three hooks.
"""

import logging
import os
from pathlib import Path
from typing import Any

from mmaction.registry import HOOKS
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from epic100.base.log import Progress
from epic100.base.machine import usable_cores
from epic100.training.epoch_table import ACCURACIES, FILE, TASKS, Row, write_epochs
from epic100.training.hooks import PRIORITIES
from epic100.training.loop import on_rank_0
from epic100.training.validation import figure_name

log = logging.getLogger(__name__)

KEY = "history"  # key of the sums in MMEngine's message hub; part of each checkpoint
# Values that MMEngine's log keeps of each figure; more than its averaging windows need. MMEngine
# copies them at every iteration. With its default of a million values, the copy takes 14 ms after
# 630,000 iterations.
KEPT = 1000
FIGURES = {column: figure_name(*column.split("_top")) for column in ACCURACIES}


@HOOKS.register_module()
class HistoryHook(Hook):
    """Write `training.tsv` to the work directory after each epoch.

    `samples_per_s` covers all ranks; `data_share` and `seconds` are rank 0's. Only batches that
    count are included: work that a kill undid is in no row. Rows and sums are in the message hub,
    so a checkpoint contains them, and a resumed run continues from those of its checkpoint.
    """

    priority = PRIORITIES["HistoryHook"]

    def before_run(self, runner: Runner) -> None:
        """Start with empty sums; a resume then restores those of the checkpoint."""
        runner.message_hub.update_info(KEY, _no_sums([]))

    def before_train(self, runner: Runner) -> None:
        """Rewrite the file so that it matches the resumed state."""
        self._write(runner, _sums(runner)["rows"])

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Record the learning rate of this batch."""
        _sums(runner)["lr"] = float(runner.optim_wrapper.get_lr()["lr"][0])

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Add this batch to the epoch's sums."""
        for buffer in runner.message_hub.log_scalars.values():
            buffer.max_length = min(buffer.max_length, KEPT)
        sums, loop = _sums(runner), runner.train_loop
        sums["batches"] += 1
        sums["samples"] += len(data_batch["data_samples"])
        sums["loss"] += loop.loss
        sums["waited"] += loop.waited
        sums["seconds"] += loop.waited + loop.computed

    def after_whole_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Add the epoch's row and reset the sums."""
        sums = _sums(runner)
        row = {
            "epoch": runner.epoch,
            "iter": runner.iter,
            "lr": sums["lr"],
            "loss": sums["loss"] / sums["batches"],
            **{column: metrics.get(name) for column, name in FIGURES.items()},
            "samples_per_s": sums["samples"] * get_world_size() / sums["seconds"],
            "data_share": sums["waited"] / sums["seconds"],
            "seconds": sums["seconds"],
        }
        rows = [*sums["rows"], row]
        runner.message_hub.update_info(KEY, _no_sums(rows))
        self._write(runner, rows)

    def _write(self, runner: Runner, rows: list[Row]) -> None:
        on_rank_0(lambda: write_epochs(rows, Path(runner.work_dir) / FILE))


@HOOKS.register_module()
class LoaderShareHook(Hook):
    """Log `compute_time` and warn once per epoch if data loading is the bottleneck.

    `compute_time` is in seconds per iteration, like MMEngine's `data_time`.

    Args:
        limit: The hook warns if at least this share (0 to 1) of the time is spent waiting for data.
        enough: Iterations needed before the share is judged.
    """

    priority = PRIORITIES["LoaderShareHook"]

    def __init__(self, limit: float = 0.2, enough: int = 20) -> None:
        self.limit, self.enough = limit, enough
        self._first: dict[str, Any] | None = None
        self._warned = False

    def before_train_epoch(self, runner: Runner) -> None:
        """Start a new measurement for each epoch."""
        self._first, self._warned = None, False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Check the share, without the first iteration, which waits for workers to start."""
        runner.message_hub.update_scalar("train/compute_time", runner.train_loop.computed)
        if self._first is None:
            self._first = dict(_sums(runner))
        elif _sums(runner)["batches"] == self._first["batches"] + self.enough:
            self._warn(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Check the share of the whole epoch."""
        self._warn(runner)

    def _warn(self, runner: Runner) -> None:
        if self._first is None or self._warned:
            return
        sums = _sums(runner)
        count, waited, spent = (
            sums[key] - self._first[key] for key in ("batches", "waited", "seconds")
        )
        if count < self.enough or waited < self.limit * spent:
            return
        self._warned = True
        cores = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        workers = runner.train_dataloader.num_workers
        runner.logger.warning(loader_advice(waited / count, spent / count, workers, cores))


@HOOKS.register_module()
class ProgressHook(Hook):
    """Show a progress bar, and log each epoch's row of `training.tsv` as a sentence.

    The bar shows segments done, segments per second (all ranks), time left, loss and the share of
    this epoch's time spent waiting for data. A resumed run counts only what is left.
    """

    priority = PRIORITIES["ProgressHook"]

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._val_bar: Progress | None = None

    def before_train(self, runner: Runner) -> None:
        """Start the bar with the number of segments that are left."""
        loader = runner.train_dataloader
        batch = loader.batch_size * get_world_size()
        whole = len(loader) * batch
        if not loader.drop_last:
            whole = min(whole, len(loader.sampler) * get_world_size())
        done = runner.iter - runner.epoch * len(loader)
        left = (runner.max_epochs - runner.epoch) * whole - done * batch
        if is_main_process() and left > 0:
            self._bar = Progress("train", left, "segments")

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Advance the bar by one batch."""
        if self._bar is not None:
            sums = _sums(runner)
            self._bar.update(
                len(data_batch["data_samples"]) * get_world_size(),
                f"epoch {runner.epoch + 1}/{runner.max_epochs}, loss {runner.train_loop.loss:.4g}, "
                f"data {100 * sums['waited'] / sums['seconds']:.0f} %",
            )

    def before_val(self, runner: Runner) -> None:
        """Start a bar with the number of segments to validate on."""
        if is_main_process():
            self._val_bar = Progress("validate", len(runner.val_dataloader.dataset), "segments")

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Advance that bar by one batch."""
        if self._val_bar is not None:
            self._val_bar.update(len(data_batch["data_samples"]) * get_world_size())

    def after_val(self, runner: Runner) -> None:
        """Close that bar."""
        if self._val_bar is not None:
            self._val_bar.close()
            self._val_bar = None

    def after_whole_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Log the figures of the epoch."""
        if self._bar is not None:
            log.info(epoch_line(_sums(runner)["rows"][-1], runner.max_epochs))

    def at_end(self, runner: Runner) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


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
    text = (
        f"the loader is the limit: of {spent:.2f} s an iteration {waited:.2f} s "
        f"({100 * waited / spent:.0f} %) are spent waiting for data, {spent - waited:.2f} s "
        "computing; "
    )
    if workers + 1 < cores:
        return (
            text + f"raise `train: workers:` from {workers} towards the {cores} cores that this "
            "process has, then try smaller copies of the videos (`videos: proxy:`)"
        )
    return (
        text + f"{workers} workers use the {cores} cores that this process has: try smaller "
        "copies of the videos (`videos: proxy:`) or ask for more cores"
    )


def _sums(runner: Runner) -> dict[str, Any]:
    return runner.message_hub.get_info(KEY)


def _no_sums(rows: list[Row]) -> dict[str, Any]:
    sums = {"batches": 0, "samples": 0, "loss": 0.0, "waited": 0.0, "seconds": 0.0, "lr": 0.0}
    return {"rows": rows, **sums}
