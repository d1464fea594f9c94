"""Start a training: in this process, or in several through torchrun.

torchrun's launcher is called as a library (`torch.distributed.launcher`, what the command itself
calls), since the command reduces every end of a process to exit code 1 and keeps its reason to a
table. A rank is the module `epic100.training.rank`; plain `torchrun` starts it as well.
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
from dataclasses import asdict, replace
from typing import Any

import psutil
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from epic100.base.errors import EpicError, from_last_line
from epic100.base.gpu import look_for_gpus
from epic100.base.machine import usable_cores
from epic100.base.own_modules import use_modules
from epic100.training.device import choose_device
from epic100.training.run import train
from epic100.training.settings import TrainSettings
from epic100.training.weights import local_weights

log = logging.getLogger(__name__)

RANK = "epic100.training.rank"
WAITED = (
    "another process did not answer within `train: patience_minutes:` (it hangs on its disk, or "
    "the network does)"
)
SAVE_SECONDS = 120  # for the others to finish a step and save, before they are killed
MEMORY = "/dev/shm"  # node-local everywhere, which $TMPDIR may not be
# The ranks meet through a file: without this the agent opens a port for them all the same.
ONE_NODE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
FORWARDED = (signal.SIGUSR1, signal.SIGUSR2)


def launch(
    settings: TrainSettings,
    model_path: str | os.PathLike,
    *,
    modules: Mapping[str, Any] | None = None,
    asked: int = 0,
    **where: Any,
) -> None:
    """Train as `train: device:` and `gpus:` say.

    Args:
        settings: The `train:` section.
        model_path: Where the model file goes.
        modules: The config's section of that name.
        asked: GPUs that the rule asks its scheduler for.
        where: The other arguments of `run.train`.

    Raises:
        EpicError: Torch cannot use a GPU that was granted or asked for; and for whatever a process
            ends with: its own words, or the signal that killed it.
        SystemExit: A process chose its exit code.
    """
    found = look_for_gpus(asked)
    placement = choose_device(settings.device, settings.gpus, found)
    if settings.load_from:
        local_weights(settings.load_from)  # a URL is fetched once, not by each process
    # MMEngine trains on any GPU that it sees.
    hidden = placement.device == "cpu" and found.visible > 0
    if hidden:
        settings = replace(settings, device="cpu")
    if placement.processes == 1 and not hidden:
        use_modules(modules)
        train(settings, model_path, **where)
        return
    paths = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in where.items()
    }
    job = {"settings": asdict(settings), "model_path": os.fspath(model_path), **paths}
    job |= {"launcher": os.getpid(), "modules": dict(modules or {})}
    cores = usable_cores()
    environment = {"OMP_NUM_THREADS": str(max(1, cores // placement.processes))}
    if hidden:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    _start(job, placement.processes, environment)


def _start(job: dict, processes: int, environment: dict[str, str]) -> None:
    with _private_folder() as logs, _private_folder(MEMORY) as meeting:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            **_rendezvous(meeting),
            max_restarts=0,  # the workflow starts it again, and it resumes
            shutdown_timeout=SAVE_SECONDS,
            logs_specs=DefaultLogsSpecs(log_dir=logs, tee=Std.ALL),
            log_line_prefix_template="rank ${rank}: ",
        )
        job = {**job, "store": os.path.join(meeting, "ranks")}
        _run(config, job, {**ONE_NODE, **_loopback(), **environment})


def _rendezvous(meeting: str) -> dict[str, Any]:
    """How the launcher's agents find each other: the one agent of this node, through a file.

    torchrun's own choice is a store that listens on all of the node's addresses and unpickles what
    anyone puts into it. Over several nodes take its `static` rendezvous, which unpickles nothing.
    """
    endpoint = os.path.join(meeting, "agents")
    return {
        "rdzv_backend": "c10d",
        "rdzv_endpoint": endpoint,
        "rdzv_configs": {"store_type": "file"},
    }


def _private_folder(parent: str | None = None) -> tempfile.TemporaryDirectory[str]:
    """A folder that no other user may enter (0700); `parent` where it can be written to."""
    usable = parent is not None and os.access(parent, os.W_OK | os.X_OK)
    return tempfile.TemporaryDirectory(prefix="epic100_ranks_", dir=parent if usable else None)


def _loopback() -> dict[str, str]:
    """Variables that keep gloo and NCCL off the network, unless the user names an interface."""
    names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    wanted = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    return {key: names[0] for key in wanted if names and key not in os.environ}


def _run(config: LaunchConfig, job: dict, environment: dict[str, str]) -> None:
    with _environ(environment):
        try:
            with _forwarding():
                elastic_launch(config, sys.executable)("-u", "-P", "-m", RANK, repr(job))
        except ChildFailedError as error:
            report_failure(*_root_cause(error.failures))
        except SignalException as error:
            log.error(f"stopped by {error.sigval.name}, and the processes with it")
            sys.exit(128 + error.sigval)


def _root_cause(failures: dict[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """The failure that the others follow from: the first, but of those within seconds of it a
    process that was killed before one that misses it. SIGTERM is the launcher's own."""
    earliest = min(failure.timestamp for failure in failures.values())

    def order(item: tuple[int, ProcessFailure]) -> tuple:
        failure = item[1]
        told = isinstance(failure.message, dict)
        killed = failure.exitcode < 0 and not told and failure.exitcode != -signal.SIGTERM
        swept = failure.exitcode == -signal.SIGTERM and not told
        return swept, not (killed and failure.timestamp <= earliest + 2), failure.timestamp

    return min(failures.items(), key=order)


def report_failure(rank: int, failure: ProcessFailure) -> None:
    """End as a process did: with its own words, its exit code, or the signal that killed it."""
    message = failure.message
    if not isinstance(message, dict):
        if failure.exitcode > 0:  # it left through sys.exit and said why itself
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
        "traceback stands above); the same command goes on from the last checkpoint"
    )


@contextmanager
def _environ(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _forwarding() -> Iterator[None]:
    """Pass SIGUSR1 and SIGUSR2 on to the ranks, which run in sessions of their own."""

    def forward(number: int, frame: object) -> None:
        for child in psutil.Process().children():
            if RANK in child.cmdline():
                child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
