"""Small trainings: their settings, and runs in this process or in one that can be killed."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmaction.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import amp
from torch.utils._python_dispatch import TorchDispatchMode

from epic100.base import foreign_tensors, ranks
from epic100.base.log import log_to_stdout, rule_log
from epic100.base.stop import until_the_last_line
from epic100.model.model_file import load_model
from epic100.settings import TrainSettings
from epic100.training import plan
from epic100.training.launch import TIMEOUT_MINUTES, Job, train_rank
from epic100.training.recipe import build_config
from epic100.training.run import attempts
from epic100.training.train import train
from support.checkout import CLASSES

DEMO = "tests/support/small_recipe.py"
SMALL = {
    "train_dataloader.dataset.pipeline.3.size": 32,
    "train_dataloader.dataset.pipeline.2.short_side": (36, 40),
}
# An epoch has 8 / 2 = 4 iterations, so both epochs have 8.
SEGMENTS = 8
BATCH = 2
EPOCHS = 2
# The fixture `straight` was trained with these, on six segments: 3 x 3 iterations.
WHOLE = {"epochs": 3, "validate": {"every": 2}, "ema": 0.7}
LOGGED = {"default_hooks.logger.interval": 1, "log_processor.window_size": 3}

# The server has imported all and has run nothing. So a process that is forked from it starts at
# once, and misses none of torch's threads. The server does not know `tests`, so it gets the names
# of what a training imports.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["epic100.mmaction", "epic100.training.train", "torch._dynamo", "torch.utils.tensorboard"]
)


def copy_results(lab, folder: Path, segments: int = SEGMENTS) -> Path:
    """Copy the lab's results, with only the first train segments."""
    results = folder / "results"
    shutil.copytree(lab.results, results)
    lines = (results / "clean/train.txt").read_text().splitlines(keepends=True)
    (results / "clean/train.txt").write_text("".join(lines[:segments]))
    return results


def settings(**chosen) -> TrainSettings:
    """Make the settings of a small training; `options` are added to those of `SMALL`."""
    options = SMALL | chosen.pop("options", {})
    defaults = {
        "config": DEMO,
        "load_from": None,
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "device": "cpu",
    }
    return TrainSettings.model_validate({**defaults, **chosen, "options": options})


def job(lab, results: Path) -> dict[str, Any]:
    """Make the arguments of `train` and `launch` beside the settings."""
    return {f"num_{name}": count for name, count in CLASSES.items()} | {
        "model_path": f"{results}/model.pth",
        "history_path": f"{results}/training.tsv",
        "results": str(results),
        "video_root": lab.root,
    }


def built(lab, results: Path | str = "", **section) -> Config:
    """Build the MMEngine config of a section `train:` for the lab, by default of `DEMO`."""
    chosen = TrainSettings.model_validate({"config": DEMO, "load_from": None, **section})
    return build_config(chosen, str(results or lab.results), lab.root)


def run(lab, results: Path, options: dict | None = None, **chosen) -> dict[str, torch.Tensor]:
    """Train in this process, and return the weights of the model."""
    train(settings(options=options or {}, **chosen), **job(lab, results))
    return dict(load_model(results / "model.pth").state_dict)


def start(
    lab,
    results: Path,
    options: dict | None = None,
    of_several=(),
    autocast=False,
    patience=TIMEOUT_MINUTES,
    **chosen,
):
    """Start a training in another process, the leader of a process group of its own.

    Its output goes to `said.txt` in `results`. If it is one of several processes, it goes to
    `said_0.txt` and so on.

    Args:
        lab: The lab.
        results: The folder of the results.
        options: Options of the MMEngine config.
        of_several: (rank, number of processes, file in which they meet) if it is one of several.
        autocast: Whether to use autocast and gradient scaling on the CPU, as a GPU does.
        patience: Minutes that one of several processes waits for another.
        **chosen: Other settings.
    """
    arguments = job(lab, results) | {
        "settings": settings(options=options or {}, **chosen).model_dump(by_alias=True)
    }
    cache = foreign_tensors.CACHE
    process = processes.Process(
        target=_child, args=(arguments, results, of_several, autocast, patience, cache)
    )
    process.start()
    return process


def ends_of_two(lab, results: Path, options: dict | None = None, **chosen) -> list[int]:
    """Train in two processes that no launcher starts, and return their exit codes."""
    store = f"{tempfile.mkdtemp(dir=results)}/store"
    both = [start(lab, results, options, (n, 2, store), **chosen) for n in (0, 1)]
    return [end_of(process) for process in both]


def node(number: int, results: Path) -> None:
    """Be a node of the training in the file `results/job`, as srun would start it.

    Call it in a process of its own. The output of the node and its ranks goes to `said_0.txt` and
    so on.
    """
    said = os.open(results / f"said_{number}.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.environ["SLURM_PROCID"] = str(number)
    ranks.main(str(results / "job"))


def end_of(process) -> int:
    """Wait for the end of a training, and return its exit code, negative for a signal."""
    process.join(600)
    if process.exitcode is None:
        process.kill()
        # The process may lead no group of processes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError("the training hangs")
    return process.exitcode


def said(results: Path) -> str:
    """Read the output of the trainings in other processes."""
    return (results / "said.txt").read_text()


def run_dir(results: Path) -> Path:
    """The folder of the only run in the results."""
    (folder,) = (results / "work_dirs").iterdir()
    return folder


def work_dir(results: Path) -> Path:
    """The folder of the newest attempt of the only run."""
    return attempts(run_dir(results))[0]


def same(first: dict, second: dict) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def _child(
    arguments: dict, results: Path, of_several: tuple, autocast: bool, patience: float, cache: Path
) -> None:
    """Be the process that `start` starts."""
    os.setpgid(0, 0)
    keep_tried_models(setattr, cache)
    if autocast:
        autocast_on_cpu(setattr)
    if of_several:
        return _rank(arguments, results, patience, *of_several)
    with open(os.devnull, "w") as nothing:
        sys.stdout = sys.stderr = nothing
        with until_the_last_line(), rule_log(results / "said.txt"):
            train(TrainSettings.model_validate(arguments.pop("settings")), **arguments)


def _rank(
    arguments: dict, results: Path, patience: float, number: int, world: int, store: str
) -> None:
    """Be one of several processes of a training, as a launcher would start it."""
    # A rank ignores this signal.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    sys.stdout = sys.stderr = (results / f"said_{number}.txt").open("w", buffering=1)
    variables = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": world}
    os.environ.update({name: str(value) for name, value in variables.items()})
    log_to_stdout()
    chosen = TrainSettings.model_validate(arguments.pop("settings"))
    job = Job(chosen, arguments, timeout_minutes=patience, init_method=f"file://{store}")
    ranks.be_rank(0, train_rank, job)


def autocast_on_cpu(put: Callable[[Any, str, Any], None]) -> None:
    """Replace autocast and gradient scaling on CUDA by those on the CPU.

    Args:
        put: `setattr`, or a monkeypatch's.
    """
    put(plan, "refuse_device", lambda config, device: None)
    put(amp_optimizer_wrapper, "is_cuda_available", lambda: True)
    put(amp_optimizer_wrapper, "GradScaler", partial(torch.amp.GradScaler, "cpu"))
    put(amp, "autocast", partial(torch.autocast, "cpu"))


def keep_tried_models(put: Callable[[Any, str, Any], None], folder: Path) -> None:
    """Keep notes of the models that can be built, as a run does: each trial of one takes seconds.

    Args:
        put: `setattr`, or a monkeypatch's.
        folder: The folder of the notes.
    """
    put(foreign_tensors, "CACHE", folder)
    put(foreign_tensors, "KEPT", 100)


def signal_at(iteration: int, number: int, to: str = "itself", of: int = 0) -> dict:
    """Make options with which a process of a training sends a signal in an iteration.

    Args:
        iteration: The iteration, counted from 1.
        number: The signal.
        to: The receiver: `itself`, its whole `group` of processes or its `parent`.
        of: The rank of the process that sends it.
    """
    # It is no custom hook, because those make another run.
    return {
        "default_hooks.signal": {
            "type": "SignalHook",
            "at": iteration,
            "number": int(number),
            "to": to,
            "of": of,
        }
    }


# With this hook, steps are read as on a GPU.
LATE = {"default_hooks.late": {"type": "LateHook"}}


@HOOKS.register_module()
class LateHook(Hook):
    """Reads the steps on a CPU one step late, as on a GPU, and lists the reads within a step."""

    # All trainings of this process add to it.
    reads: list[str] = []

    def before_train(self, runner) -> None:
        """Let the loop have one pending step, and count the reads in each step."""
        loop, step = runner.train_loop, runner.train_loop.step

        def counted(batch, waited) -> None:
            with Reads(self.reads):
                step(batch, waited)

        loop.max_pending, loop.step = 1, counted


class Reads(TorchDispatchMode):
    """Lists where Python reads a tensor: by `float`, `item`, `if`, or a copy to the CPU."""

    def __init__(self, found: list[str]):
        """Begin to add the places of reads, as texts of the stack, to this list."""
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Be called by PyTorch in place of each operation, and carry it out."""
        to_host = str((kwargs or {}).get("device")) == "cpu" and not getattr(
            args[0], "is_cpu", True
        )
        if func is torch.ops.aten._local_scalar_dense.default or to_host:
            self.found.append("".join(traceback.format_stack(limit=12)))
        return func(*args, **kwargs or {})


@HOOKS.register_module()
class SignalHook(Hook):
    """Sends a signal inside the iteration `at`, counted from 1, as `signal_at` asks for."""

    # So the signal is sent before other hooks see the iteration.
    priority = "VERY_HIGH"

    def __init__(self, at: int, number: int, to: str, of: int):
        """Take the options that `signal_at` makes."""
        self.at = at
        self.number = number
        self.of = of
        # The receiver is found when the signal is sent.
        self.to = {"itself": os.getpid, "group": lambda: -os.getpgrp(), "parent": os.getppid}[to]

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Send the signal in the iteration `at`, from the rank `of`."""
        if runner.iter + 1 == self.at and int(os.environ.get("RANK", 0)) == self.of:
            os.kill(self.to(), self.number)
