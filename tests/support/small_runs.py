"""Small trainings: their settings, and runs in this process or in one that can be killed."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmaction.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import amp, loops

from epic100.base.log import rule_log
from epic100.base.stop import until_the_last_line
from epic100.model.model_file import load_model
from epic100.settings.training import TrainSettings
from epic100.training import plan
from epic100.training.recipe import build_config
from epic100.training.train import train
from support.checkout import CLASSES, ROOT

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
    """Make the settings of a small training; `options` are added to `SMALL`."""
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
    """Make the arguments of `train` besides the settings."""
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


def start(lab, results: Path, options: dict | None = None, autocast=False, **chosen):
    """Start a training in another process, the leader of its own process group.

    Its output goes to `said.txt` in `results`.

    Args:
        lab: The lab.
        results: The folder of the results.
        options: Options of the MMEngine config.
        autocast: Whether to use autocast and gradient scaling on the CPU, as a GPU does.
        **chosen: Other settings.
    """
    arguments = job(lab, results) | {
        "settings": settings(options=options or {}, **chosen).model_dump(by_alias=True)
    }
    process = processes.Process(target=_child, args=(arguments, results, autocast))
    process.start()
    return process


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
    """The folder of the only training in the results."""
    (stamp,) = (results / "work_dirs").glob("*/fingerprint.json")
    return stamp.parent


def same(first: dict, second: dict) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def _child(arguments: dict, results: Path, autocast: bool) -> None:
    """Be the process that `start` starts."""
    os.setpgid(0, 0)
    if autocast:
        autocast_on_cpu(setattr)
    with open(os.devnull, "w") as nothing:
        sys.stdout = sys.stderr = nothing
        with until_the_last_line(), rule_log(results / "said.txt"):
            # The processes of a training import the hooks of this module, too.
            modules = {"folder": str(ROOT / "tests"), "imports": ["support.small_runs"]}
            chosen = TrainSettings.model_validate(arguments.pop("settings"))
            train(chosen, modules=modules if chosen.gpus else None, **arguments)


def autocast_on_cpu(put: Callable[[Any, str, Any], None]) -> None:
    """Replace autocast and gradient scaling on CUDA by those on the CPU.

    Args:
        put: `setattr`, or a monkeypatch's.
    """
    put(plan, "require_device", lambda config, device: None)
    put(amp_optimizer_wrapper, "is_cuda_available", lambda: True)
    put(amp_optimizer_wrapper, "GradScaler", partial(torch.amp.GradScaler, "cpu"))
    put(amp, "autocast", partial(torch.autocast, "cpu"))
    put(loops, "autocast", _autocast_of_validation)


def _autocast_of_validation(enabled: bool) -> torch.autocast:
    """Start autocast as MMEngine's ValLoop does, to the type that is set for CUDA."""
    return torch.autocast("cpu", torch.get_autocast_dtype("cuda"), enabled=enabled)


def signal_at(iteration: int, number: int, to: str = "itself", of: int = 0, **more) -> dict:
    """Make options with which a process of a training sends a signal in an iteration.

    Args:
        iteration: The iteration, counted from 1.
        number: The signal.
        to: The receiver: `itself`, its `group` of processes or its `parent`.
        of: The rank of the process that sends it.
        **more: `point`, the method of a hook in which it is sent.
    """
    # It is no custom hook, because those make another training.
    hook = {"type": "SignalHook", "at": iteration, "number": int(number), "to": to, "of": of}
    return {"default_hooks.signal": hook | more}


@HOOKS.register_module()
class SignalHook(Hook):
    """Sends a signal inside the iteration `at`, counted from 1, as `signal_at` asks for."""

    # So the signal is sent before other hooks see the iteration.
    priority = "VERY_HIGH"

    def __init__(self, at: int, number: int, to: str, of: int, point: str = "before_train_iter"):
        """Take the options that `signal_at` makes."""
        receivers = {"itself": os.getpid, "group": lambda: -os.getpgrp(), "parent": os.getppid}
        self.at, self.number, self.of, self.to = at, number, of, receivers[to]
        setattr(self, point, self._send)

    def _send(self, runner, *_, **__) -> None:
        """Send the signal if this is the iteration and the rank."""
        if runner.iter + 1 == self.at and int(os.environ.get("RANK", 0)) == self.of:
            os.kill(self.to(), self.number)
