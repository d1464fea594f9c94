"""The reports of a running training: `training.tsv`, a bar, advice, and one anonymous page.

The page, `diagnosis.txt`, is made only of numbers, words of this module, and names of GPUs, CPUs,
packages and model classes. No text that may contain a path, or the name of a file, host or user,
gets into it, so that it can be sent to the maintainers.
"""

import logging
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import psutil
import torch

from epic100.base.atomic import write_text
from epic100.base.errors import DiskError
from epic100.base.log import Progress
from epic100.base.machine import cpu_name, driver_version, usable_cores
from epic100.base.ranks import on_rank_0, rank, world
from epic100.scoring.epoch_table import FILE, write_epochs
from epic100.scoring.metrics import TASKS
from epic100.training.state import History

log = logging.getLogger(__name__)

PAGE = "diagnosis.txt"
TITLE = (
    "Diagnosis of a training with the EPIC-KITCHENS-100 workflow.\n"
    "It has no paths and no names of files, hosts or users: please attach it to an issue."
)
PACKAGES = ("epic100", "mmengine", "mmaction2", "av", "numpy", "snakemake")


class Report:
    """The progress of a running training, on the screen and in files.

    `training.tsv` in the work directory gets a row after each epoch. The bar shows segments done,
    segments per second (all processes), time left, loss and the share of this epoch's time spent
    waiting for data. A resumed run counts only what is left. If this share is large, a warning says
    so once per epoch. Only process 0 writes and shows.

    Args:
        limit: It warns if at least this share (0 to 1) of the time is spent waiting for data.
        enough: Iterations needed before the share is judged.
        bar: Whether to show the bar, and to log each epoch's row as a sentence.
    """

    def __init__(self, limit: float = 0.2, enough: int = 20, bar: bool = True) -> None:
        """Take the settings, which the class describes; `begin` starts the report."""
        self.wait_limit = limit
        self.min_batches = enough
        self.shows_bar = bar
        self._page: Path | None = None
        self._run_lines: list[str] = []
        self._bar: Progress | None = None
        self._val_bar: Progress | None = None
        # The first batch of an epoch starts the loader, so its waiting does not count: waiting is
        # measured from this copy of the history on, which is made after it.
        self._after_first_batch: History | None = None
        self._warned = False

    def write_page_to(self, path: Path, run_lines: list[str]) -> None:
        """Set the path of the page, which is written at the start, after each epoch and at the end.

        The path is not in the config, so it is in no stamp and in no model file.

        Args:
            path: The file.
            run_lines: The lines about the run on the page, without paths.
        """
        self._page, self._run_lines = path, run_lines

    def begin(
        self,
        history: History,
        remaining: int,
        work_dir: str | os.PathLike,
        epochs: int,
        workers: int,
    ) -> None:
        """Write table and page of the state that is resumed, and start the bar.

        Args:
            history: The measurements before this start.
            remaining: Segments to train on, over all epochs and processes.
            work_dir: The work directory.
            epochs: Epochs of the whole run.
            workers: Loader processes of this process.
        """
        self.table = Path(work_dir) / FILE
        self.epochs = epochs
        self.workers = workers
        self._write(history)
        self._bar = self._new_bar("train", remaining)

    def step(self, history: History, segments: int, loss: float) -> None:
        """Report a step that is in the history already, and warn if the loader is too slow."""
        if self._bar is not None:
            self._bar.update(
                segments * world(),
                f"epoch {len(history.rows) + 1}/{self.epochs}, loss {loss:.4g}, "
                f"data {100 * history.waited / history.seconds:.0f} %",
            )
        self._warn_of_waiting(history)

    def end_epoch(self, history: History) -> None:
        """Report an epoch that is over: the last row of the history."""
        # Each epoch may have one warning about its time spent waiting for data.
        self._after_first_batch = None
        self._warned = False
        self._write(history)
        if self._bar is not None:
            log.info(epoch_line(history.rows[-1], self.epochs))

    @contextmanager
    def show_validation(self, segments: int) -> Iterator[None]:
        """Show another bar during a block that validates this many segments.

        If an error ends the block, the bar is not closed: it still shows how far the validation
        came.
        """
        self._val_bar = self._new_bar("validate", segments)
        yield
        if self._val_bar is not None:
            self._val_bar.close()

    def advance_validation(self, segments: int) -> None:
        """Advance the bar of the validation by a batch of this many segments per process."""
        if self._val_bar is not None:
            self._val_bar.update(segments * world())

    def end(self, history: History) -> None:
        """Close the bar and write the page; it is called however the training ends."""
        if self._bar is not None:
            self._bar.close()
        self._write_page(history)

    def _new_bar(self, label: str, segments: int) -> Progress | None:
        """Start a bar of this many segments on rank 0, or return None."""
        is_shown = self.shows_bar and rank() == 0 and segments > 0
        return Progress(label, segments, "segments") if is_shown else None

    def _warn_of_waiting(self, history: History) -> None:
        """Warn once per epoch if the loader is too slow.

        The first batch of an epoch starts the loader, so its waiting does not count.
        """
        if self._after_first_batch is None:
            self._after_first_batch = replace(history)
        start = self._after_first_batch
        batches = history.batches - start.batches
        waited = history.waited - start.waited
        spent = history.seconds - start.seconds
        is_slow = batches >= self.min_batches and waited >= self.wait_limit * spent
        if is_slow and self._bar is not None and not self._warned:
            self._warned = True
            # The launcher sets this variable to the number of processes on the node.
            cores = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
            # MMEngine's logger would leave out a warning that repeats the words of an earlier one.
            log.warning(loader_advice(waited / batches, spent / batches, self.workers, cores))

    def _write(self, history: History) -> None:
        """Write the table of epochs and the page."""
        on_rank_0(lambda: write_epochs(history.rows, self.table))
        self._write_page(history)

    def _write_page(self, history: History) -> None:
        """Write the anonymous page if it has a path, which only rank 0 sets."""
        if self._page is None:
            return
        rows = list(history.rows)
        # An unfinished epoch gets a row of its own, without the figures of a validation.
        if history.batches:
            rows.append({"epoch": len(rows) + 1, "action_top1": None, **history.means()})
        epoch_lines = [epoch_line(row, self.epochs) for row in rows] or ["steps: none yet"]
        lines = [TITLE, "", *machine(), "", *self._run_lines, "", *epoch_lines]
        try:
            write_text(self._page, "\n".join(lines) + "\n")
        except (OSError, DiskError) as error:  # A page about the training must not end it.
            log.warning(f"{self._page}: not written ({error})")


def epoch_line(row: Mapping[str, Any], epochs: int) -> str:
    """Format a row of `training.tsv` as a line: `epoch 2/40: loss 3.1, 61.0 segments/s, ...`."""
    figures = [f"loss {row['loss']:.4g}"]
    if row["action_top1"] is not None:
        figures += [f"{task} top-1 {row[f'{task}_top1']:.2f} %" for task in TASKS]
    figures.append(f"{row['samples_per_s']:.1f} segments/s")
    figures.append(f"{100 * row['data_share']:.0f} % of the time waiting for data")
    return f"epoch {row['epoch']}/{epochs}: {', '.join(figures)}"


def loader_advice(waited: float, spent: float, workers: int, cores: int) -> str:
    """Write the warning about a loader that is too slow, and how to make it faster.

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
    """Describe the machine in lines: package versions, torch, GPUs, driver, CPU and memory."""
    versions = {distribution.name: distribution.version for distribution in distributions()}
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    packages = [f"{name} {versions[name]}" for name in PACKAGES if name in versions]
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    gpus = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    return [
        f"versions: {', '.join([python, *packages])}",
        f"torch: {torch.__version__}, CUDA {torch.version.cuda or 'none'}, cuDNN {cudnn or 'none'}",
        *(
            f"GPU: {gpu.name}, {gpu.total_memory / 2**30:.1f} GiB, sm_{gpu.major}{gpu.minor}"
            for gpu in gpus
        ),
        *([] if gpus else ["GPU: none"]),
        f"driver: {driver_version() or 'none'}",
        f"CPU: {cpu_name()}, {usable_cores()} of {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory",
    ]
