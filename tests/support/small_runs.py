"""Trainings of seconds, in this process or in one of their own that can be killed."""

import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

import torch
from mmaction.registry import HOOKS
from mmengine.hooks import Hook

from epic100.base.log import rule_log
from epic100.model.model_file import load_model
from epic100.training.run import train
from epic100.training.settings import TrainSettings
from support.cpu_autocast import autocast_on_cpu

SMALL = {
    "train_dataloader.dataset.pipeline.3.size": 32,
    "train_dataloader.dataset.pipeline.2.short_side": (36, 40),
}
SEGMENTS, BATCH, EPOCHS = 8, 2, 2  # 4 iterations an epoch, 8 in all

# A process forked of a server that has imported all and run nothing starts in no time and has no
# threads of torch's to miss.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["small_runs", "epic100.mmaction"])


def copy_results(lab, folder: Path, segments: int = SEGMENTS) -> Path:
    """A copy of the lab's results with few train segments."""
    results = folder / "results"
    shutil.copytree(lab.results, results)
    lines = (results / "clean/train.txt").read_text().splitlines(keepends=True)
    (results / "clean/train.txt").write_text("".join(lines[:segments]))
    return results


def run(lab, results: Path, options: dict | None = None, **settings) -> dict[str, torch.Tensor]:
    """Train here; returns the weights."""
    return _run(lab.root, results, options or {}, settings)


def start(
    lab, results: Path, options: dict | None = None, rank=None, autocast: bool = False, **settings
):
    """Train in another process, the leader of a group of its own, ended as a rule would be.

    What it says goes to `said.txt` in `results`. `rank`: (rank, processes, port) of one of several.
    `autocast`: with autocast and gradient scaling on the CPU, as a GPU has it.
    """
    arguments = (lab.root, results, options or {}, settings, rank, autocast)
    process = processes.Process(target=_child, args=arguments)
    process.start()
    return process


def end_of(process) -> int:
    """The exit code, negative for a signal."""
    process.join(120)
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError("the training hangs")
    return process.exitcode


def said(results: Path) -> str:
    """What trainings in other processes said."""
    return (results / "said.txt").read_text()


def work_dir(results: Path) -> Path:
    """The one work directory."""
    (folder,) = (results / "work_dirs").iterdir()
    return folder


def same(first: dict, second: dict) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def _run(root: str, results: Path, options: dict, settings: dict) -> dict[str, torch.Tensor]:
    chosen = {"config": "config/x3d_demo.py", "epochs": EPOCHS, "batch_size": BATCH, **settings}
    train(
        TrainSettings.from_section({**chosen, "options": {**SMALL, **options}}),
        results / "model.pth", history_path=results / "training.tsv", results=str(results),
        video_root=root, num_verbs=97, num_nouns=300,
    )  # fmt: skip
    if int(os.environ.get("RANK", 0)):
        return {}  # rank 0 writes the model, maybe later than this one ends
    return dict(load_model(results / "model.pth").state_dict)


def _child(
    root: str, results: Path, options: dict, settings: dict, rank, autocast: bool = False
) -> None:
    os.setpgid(0, 0)
    if autocast:
        autocast_on_cpu(setattr)
    name = "said.txt"
    if rank is not None:
        number, world, port = rank
        os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE=str(world),
                          MASTER_ADDR="localhost", MASTER_PORT=str(port))  # fmt: skip
        torch.distributed.init_process_group("gloo")
        wrapper = {"type": "MMDistributedDataParallel", "device_ids": None,
                   "broadcast_buffers": False}  # fmt: skip
        options = {**options, "launcher": "pytorch", "model_wrapper_cfg": wrapper}
        name = "said.txt" if number == 0 else f"said_{number}.txt"
    with open(os.devnull, "w") as nothing:
        sys.stdout = sys.stderr = nothing
        with rule_log(results / name):
            _run(root, results, options, settings)


def signal_at(iteration: int, number: int, group: bool = False, rank: int = 0) -> dict:
    """Options that let the training, or its whole process group, get a signal in an iteration."""
    hook = {"type": "SignalHook", "at": iteration, "number": int(number), "group": group,
            "rank": rank}  # fmt: skip
    return {"default_hooks.signal": hook}  # not a custom hook: those make another run


@HOOKS.register_module()
class SignalHook(Hook):
    """Sends a signal inside the iteration `at`, counted from 1."""

    priority = "VERY_HIGH"

    def __init__(self, at: int, number: int, group: bool, rank: int):
        self.at, self.number, self.group, self.rank = at, number, group, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter + 1 == self.at and int(os.environ.get("RANK", 0)) == self.rank:
            if self.group:
                os.killpg(0, self.number)
            else:
                os.kill(os.getpid(), self.number)
