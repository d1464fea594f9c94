"""Start a training: in this process, or in several through torchrun.

torchrun's launcher is called as a library (`torch.distributed.launcher`, which the command also
calls). The command itself turns every failure into exit code 1 and prints the reason only in a
table. Each rank runs the module `epic100.training.rank`, which plain `torchrun` can start too.
"""

import logging
import os
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from epic100.base.errors import EpicError, from_last_line
from epic100.base.gpu import Gpus, look_for_gpus
from epic100.base.machine import usable_cores
from epic100.settings import TrainSettings
from epic100.training.device import Placement, choose_device
from epic100.training.meeting import ONE_NODE, Nodes, loopback, meet_at, meet_in, towards
from epic100.training.run import train
from epic100.training.several_nodes import train_on_nodes
from epic100.training.stop import forwarding
from epic100.training.weights import local_weights
from epic100.video.index_file import FOLDER as SHARED_INDEXES

log = logging.getLogger(__name__)

RANK = "epic100.training.rank"
WAITED = (
    "another process did not answer for half an hour (it hangs on its disk, or the network does)"
)
PATIENCE_MINUTES = 30.0  # a step takes seconds; a slow disk that comes back is worth the wait
SAVE_SECONDS = 120  # time for the other ranks to finish a step and save before they are killed
MEMORY = "/dev/shm"  # always node-local; $TMPDIR may not be


def launch(
    settings: TrainSettings,
    model_path: str | os.PathLike,
    *,
    modules: Mapping[str, Any] | None = None,
    asked: int = 0,
    **where: Any,
) -> None:
    """Train on the device and with the number of processes that the settings ask for.

    Args:
        settings: The `train:` section.
        model_path: Path of the model file to write.
        modules: The config's `modules` section.
        asked: Number of GPUs that the rule requests from its scheduler.
        where: The other arguments of `run.train`.

    Raises:
        EpicError: Torch cannot use a GPU that was granted or requested; or a process failed (with
            its own message) or was killed by a signal.
        SystemExit: A process exited with its own exit code.
    """
    found = look_for_gpus(asked)
    placement = choose_device(settings.device, settings.gpus, found, settings.nodes)
    if settings.load_from:
        local_weights(settings.load_from)  # checked once, before any process starts
    hidden = placement.device == "cpu" and found.visible > 0
    if hidden:
        settings = settings.model_copy(update={"device": "cpu"})
    if placement.processes == 1 and not hidden:
        train(settings, model_path, modules=modules, **where)
        return
    paths = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in where.items()
    }
    plain = settings.model_dump(by_alias=True)
    job = {"settings": plain, "model_path": os.fspath(model_path), **paths}
    job |= {"modules": dict(modules or {}), "patience": PATIENCE_MINUTES}
    if settings.nodes > 1:
        train_on_nodes({**job, "asked": asked, "host": socket.gethostname()}, settings.nodes)
    else:
        start_processes(job, placement, found)


def start_processes(
    job: dict, placement: Placement, found: Gpus, nodes: Nodes | None = None
) -> None:
    """Start the processes of this node through torchrun's launcher and wait for them.

    Args:
        job: What `rank.main` takes, without `launcher` and `store`.
        placement: Device and processes of the whole training.
        found: The GPUs of this node.
        nodes: The nodes of the training; None means this one only.

    Raises:
        EpicError: As `launch`.
        SystemExit: As `launch`.
    """
    environment = {"OMP_NUM_THREADS": str(max(1, usable_cores() // placement.on_node))}
    if placement.device == "cpu" and found.visible > 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""  # MMEngine uses any GPU that it sees
    with _private_folder() as logs, _private_folder(MEMORY) as folder:
        job = {**job, "launcher": os.getpid()}
        environment[SHARED_INDEXES] = logs  # on a disk: shared memory is scarce in containers
        if nodes is None:
            meeting = meet_in(folder)
            job["store"] = os.path.join(folder, "ranks")
            environment |= {**ONE_NODE, **loopback()}
        else:
            meeting = meet_at(nodes)
            environment |= towards(nodes.address)
        config = LaunchConfig(
            min_nodes=placement.nodes,
            max_nodes=placement.nodes,
            nproc_per_node=placement.on_node,
            run_id=nodes.run_id if nodes else uuid.uuid4().hex,
            **meeting,
            max_restarts=0,  # the workflow restarts it, and it resumes
            shutdown_timeout=SAVE_SECONDS,
            logs_specs=DefaultLogsSpecs(log_dir=logs, tee=Std.ALL),
            log_line_prefix_template="rank ${rank}: ",
        )
        _run(config, job, environment)


def _private_folder(parent: str | None = None) -> tempfile.TemporaryDirectory[str]:
    """A folder that only this user can enter (mode 0700), in `parent` if that is writable."""
    usable = parent is not None and os.access(parent, os.W_OK | os.X_OK)
    return tempfile.TemporaryDirectory(prefix="epic100_ranks_", dir=parent if usable else None)


@contextmanager
def _environment_with(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within a `with` block and restore them after it."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run(config: LaunchConfig, job: dict, environment: dict[str, str]) -> None:
    with _environment_with(environment):
        try:
            with forwarding(_tell_ranks):
                elastic_launch(config, sys.executable)("-u", "-P", "-m", RANK, repr(job))
        except ChildFailedError as error:
            report_failure(*_root_cause(error.failures))
        except SignalException as error:
            log.error(f"stopped by {error.sigval.name}, and the processes with it")
            sys.exit(128 + error.sigval)


def _root_cause(failures: dict[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """The failure that caused the others.

    It is the first failure. If a process was killed within 2 seconds of it, that process is
    preferred, because others fail when they miss it. SIGTERM does not count: the launcher sends it.
    """
    earliest = min(failure.timestamp for failure in failures.values())

    def order(item: tuple[int, ProcessFailure]) -> tuple:
        failure = item[1]
        explained = isinstance(failure.message, dict)
        killed = failure.exitcode < 0 and not explained and failure.exitcode != -signal.SIGTERM
        terminated = failure.exitcode == -signal.SIGTERM and not explained
        return terminated, not (killed and failure.timestamp <= earliest + 2), failure.timestamp

    return min(failures.items(), key=order)


def report_failure(rank: int, failure: ProcessFailure) -> None:
    """Exit as the failed process did: with its error, its exit code, or the signal that killed it.

    Args:
        rank: Rank of the process.
        failure: What torchrun recorded about it.

    Raises:
        EpicError: The process raised an exception or was killed by a signal.
        SystemExit: The process exited with its own exit code.
    """
    message = failure.message
    if not isinstance(message, dict):
        if failure.exitcode > 0:  # it called sys.exit and logged the reason itself
            sys.exit(failure.exitcode)
        why = "out of memory, or by hand"
        if failure.exitcode == -signal.SIGABRT:
            why = f"NCCL ends it so where {WAITED}; or CUDA or the C library failed"
        raise EpicError(
            f"training ended, because process {rank} was killed by {failure.signal_name()} "
            f"({why}); the same command goes on from the last checkpoint"
        )
    kind, _, words = message["message"].partition(": ")
    if error := from_last_line(words):
        raise error
    if "imed out" in words:
        raise EpicError(
            f"training ended, because process {rank} found that {WAITED}; the same command goes on "
            "from the last checkpoint"
        )
    raise EpicError(
        f"training ended, because process {rank} failed with {kind}: {words.splitlines()[0]} (its "
        "traceback is above); the same command goes on from the last checkpoint"
    )


def _tell_ranks(number: int) -> None:
    """Send a signal to the ranks, which run in sessions of their own."""
    for child in psutil.Process().children():
        if RANK in child.cmdline():
            child.send_signal(number)
