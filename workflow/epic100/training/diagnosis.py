"""One anonymous page about a training and its machine, to send to the maintainers.

It is made only of numbers, our own words, and names of GPUs, CPUs, packages and model classes. No
text that may contain a path, or the name of a file, host or user, gets into it.
"""

import contextlib
import logging
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from epic100.base.atomic import write_text
from epic100.base.errors import DiskError
from epic100.base.machine import cpu_name, driver_version, usable_cores
from epic100.training.hooks import PRIORITIES
from epic100.training.preflight import Found
from epic100.training.start_table import StartTable

FILE = "diagnosis.txt"
STEPS = 200
TITLE = (
    "Diagnosis of a training with the EPIC-KITCHENS-100 workflow.\n"
    "It has no paths and no names of files, hosts or users: please attach it to an issue."
)
PRIVATE_ROWS = ("weights", "disk")  # rows of the start table with paths
PACKAGES = ("epic100", "mmengine", "mmaction2", "av", "numpy", "snakemake")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One step of training: seconds of waiting for data, seconds of computing, and segments."""

    waited: float
    computed: float
    segments: int

    @property
    def seconds(self) -> float:
        """Seconds of the whole step."""
        return self.waited + self.computed


def about_run(found: Found, table: StartTable) -> list[str]:
    """Describe the run and its machine, line by line.

    Args:
        found: Result of the preflight.
        table: The start table made of it.
    """
    rows = [f"{name}: {text}" for name, text in table.rows if name not in PRIVATE_ROWS]
    rows.append(f"weights: {found.weights.line() if found.weights else 'random'}")
    rows += [f"warning: {text}" for text in table.warnings]
    return ["", *versions(), *machine(), "", *rows]


def versions() -> list[str]:
    """Versions of Python, torch, CUDA and the packages that training depends on."""
    found = [f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"]
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    cuda = f"CUDA {torch.version.cuda or 'none'}, cuDNN {cudnn or 'none'}"
    return [f"versions: {', '.join(found)}", f"torch: {torch.__version__}, {cuda}"]


def machine() -> list[str]:
    """GPUs with their driver, CPU, cores and memory of this machine."""
    gpus = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    lines = [
        f"GPU: {gpu.name}, {gpu.total_memory / 2**30:.1f} GiB, sm_{gpu.major}{gpu.minor}"
        for gpu in gpus
    ] or ["GPU: none"]
    lines.append(f"driver: {driver_version() or 'none'}")
    memory = psutil.virtual_memory().total / 2**30
    cores = f"{usable_cores()} of {os.cpu_count()} cores"
    return [*lines, f"CPU: {cpu_name()}, {cores}, {memory:.0f} GiB of memory"]


def speed(steps: list[Step], processes: int) -> list[str]:
    """Describe how fast the first steps were.

    Args:
        steps: The steps of one process. The first one waits for loader processes to start.
        processes: Number of processes, which all train at this speed.
    """
    if not steps:
        return ["steps: none yet"]
    first, rest = steps[0], steps[1:]
    lines = [f"first step: {first.seconds:.2f} s, {first.waited:.2f} s of it waiting for data"]
    if rest:
        spent = sum(step.seconds for step in rest)
        rate = processes * sum(step.segments for step in rest) / spent
        waiting = 100 * sum(step.waited for step in rest) / spent
        middle, slow = 1000 * np.quantile([step.seconds for step in rest], [0.5, 0.9])
        lines += [
            f"next {len(rest)} steps: {rate:.1f} clips/s, {waiting:.0f} % of the time waiting for "
            "data",
            f"a step: {middle:.0f} ms in the middle, 9 of 10 up to {slow:.0f} ms",
        ]
    return lines


class DiagnosisHook(Hook):
    """Write the page before the first step, after the first steps, and if training ends before.

    It is not in the config, so it is in no stamp and in no model file. Rank 0 alone has it.

    Args:
        path: The file to write.
        about: The lines that are known at the start.
        steps: Number of steps to measure.
    """

    priority = PRIORITIES["DiagnosisHook"]

    def __init__(self, path: Path, about: list[str], steps: int = STEPS) -> None:
        self.path, self.about, self.steps = path, about, steps
        self._measured: list[Step] = []

    def before_train(self, runner: Runner) -> None:
        """Write what is known at the start."""
        self._write()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Measure one of the first steps."""
        if len(self._measured) == self.steps:
            return
        loop = runner.train_loop
        segments = len(data_batch["data_samples"])
        self._measured.append(Step(loop.waited, loop.computed, segments))
        if len(self._measured) == self.steps:
            self._write()

    def at_end(self, runner: Runner) -> None:
        """Write what was measured if training ends early, for whatever reason."""
        if len(self._measured) < self.steps:
            self._write()

    def _write(self) -> None:
        lines = [TITLE, *self.about, "", *speed(self._measured, get_world_size())]
        try:
            write_text(self.path, "\n".join(lines) + "\n")
        except (OSError, DiskError) as error:  # a page about the training must not end it
            log.warning(f"{self.path}: not written ({error})")
