"""Several processes of one job, the ranks of a training or of a prediction, which end together.

torch starts them as torchrun does, and ends all of them when one fails. torchrun itself opens
ports, turns every failure into exit code 1 and prints the reason only in a table.
`multiprocessing` cannot start them: it imports the main module again in each, which may be a rule's
script that Snakemake fetched from a host. Each is started with a call, a function and its
arguments, in a file:

    python -m epic100.base.ranks FILE
"""

import os
import pickle
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

if __name__ == "__main__":  # A request to save must not end it before a training listens.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

from torch.distributed.elastic.multiprocessing import (
    DefaultLogsSpecs,
    SignalException,
    Std,
    start_processes,
)
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure, record

from epic100.base.errors import EpicError
from epic100.base.log import log_to_stdout
from epic100.base.stop import GO_ON

# The name of this module, which each rank runs.
PROCESS = "epic100.base.ranks"
# Torch turns the signals in this environment variable into an error.
HANDLED = "TORCHELASTIC_SIGNALS_TO_HANDLE"
# The launcher looks so often whether a rank has ended.
LOOK_SECONDS = 1.0
# The other ranks have so long to finish a step and save before they are killed.
SAVE_SECONDS = 120
WAITED = (
    "another process did not answer for half an hour (it hangs on its disk, or the network does)"
)
# Errors with these texts may be a consequence of another process's failure. The earlier a pattern
# comes, the likelier its error is the cause itself. SIGTERM comes last, because the launcher ends
# the other processes with it.
CONSEQUENCE_PATTERNS = (
    r"process \d+ (was killed by (?!SIGTERM)|ended)",
    r"process \d+ (failed|found)",
    r"process \d+ was killed by SIGTERM|^stopped by",
)

Result = TypeVar("Result")
# A call is a function of a module and its arguments, which are pickled.
Call = tuple[Any, ...]


def run_ranks(
    calls: Sequence[Call],
    environments: Sequence[Mapping[str, str]],
    first: int = 0,
    look: Callable[[], None] = lambda: None,
) -> None:
    """Make each call in a process of its own, and wait until all have ended.

    Args:
        calls: A call for each process.
        environments: Environment variables for each process.
        first: The number of the first process in messages. The others count on from it.
        look: Called once a second, and at the end.

    Raises:
        EpicError: A process failed (then the message is its own) or was killed by a signal, or this
            process is asked to end.
    """
    # SIGINT is not listed, so Ctrl-C stays a KeyboardInterrupt.
    os.environ[HANDLED] = "SIGTERM,SIGHUP"
    with private_folder() as folder:
        commands = {}
        for number, call in enumerate(calls):
            call_file = Path(folder, f"call_{number}")
            call_file.write_bytes(pickle.dumps((os.getpid(), *call)))
            commands[number] = ("-u", "-P", "-m", PROCESS, str(call_file))
        try:
            ranks = start_processes(
                "ranks",
                sys.executable,
                commands,
                dict(enumerate(map(dict, environments))),
                DefaultLogsSpecs(log_dir=folder, tee=Std.ALL),
                {number: f"rank {first + number}: " for number in commands},
            )
            try:
                # The wait gives None while processes run, and ends the others if one fails.
                while (ended := ranks.wait(LOOK_SECONDS, period=0.1)) is None:
                    look()
            finally:
                ranks.close(timeout=SAVE_SECONDS)
        except SignalException as error:
            raise EpicError(
                f"stopped by {error.sigval.name}, and the processes with it; {GO_ON}"
            ) from error
    look()
    if failures := sorted(ended.failures.values(), key=lambda failure: failure.timestamp):
        raise cause_of(error_of(first + failed.local_rank, failed) for failed in failures)


def private_folder(parent: str | None = None) -> tempfile.TemporaryDirectory[str]:
    """Make a temporary folder that only this user can enter, in `parent` if that is writable."""
    usable = parent is not None and os.access(parent, os.W_OK | os.X_OK)
    return tempfile.TemporaryDirectory(prefix="epic100_ranks_", dir=parent if usable else None)


def cause_of(errors: Iterable[EpicError]) -> EpicError:
    """Return the error that most likely caused the others, of the errors of several processes."""

    def place_as_cause(error: EpicError) -> int:
        """Rank an error: 0 if it is no known consequence of another one, else 1 or more.

        An error with a larger rank is less likely to be the cause.
        """
        places = (
            place
            for place, pattern in enumerate(CONSEQUENCE_PATTERNS, start=1)
            if re.search(pattern, str(error))
        )
        return next(places, 0)

    return min(errors, key=place_as_cause)


def error_of(number: int, failure: ProcessFailure) -> EpicError:
    """Return the error of a process that failed: its own EpicError, or a text on how it ended.

    Args:
        number: The number of the process.
        failure: torch's record of the failure.
    """
    message = failure.message
    if isinstance(message, dict):
        class_name, _, text = message["message"].partition(": ")
        if class_name == EpicError.__name__:
            return EpicError(text)
        why = f"failed with {class_name}: {text.splitlines()[0]} (its traceback is above)"
        if "imed out" in text:  # The texts say "timed out" and "Timed out".
            why = f"found that {WAITED}"
    elif failure.exitcode > 0:
        why = f"ended with exit code {failure.exitcode} (its reason stands above)"
    elif failure.exitcode == -signal.SIGABRT:
        why = (
            f"was killed by SIGABRT (NCCL ends it so where {WAITED}; or CUDA or the C library "
            "failed)"
        )
    else:
        why = f"was killed by {failure.signal_name()} (out of memory, or by hand)"
    return EpicError(f"stopped, because process {number} {why}; {GO_ON}")


@record
def be_rank(parent: int, function: Callable[..., None], *arguments: Any) -> None:
    """Make a call as one of several processes; torch's `record` writes down why it fails.

    Args:
        parent: Id of the launcher's process. If the launcher ends, this process does too. 0 means
            the parent process.
        function: The function to call.
        *arguments: Its arguments.

    Raises:
        EpicError: The call fails with an EpicError or a subclass. It is always raised as EpicError
            itself, because the launcher recognises it by this name.
    """
    _end_with(parent or os.getppid())
    try:
        function(*arguments)
    except EpicError as error:
        raise EpicError(str(error)) from error


def _end_with(parent: int) -> None:
    """Start a thread that ends this process when the launcher dies.

    An orphaned rank would write into the next run's folder.
    """

    def watch() -> None:
        """End this process once it has another parent, as an orphan has."""
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(path: str) -> None:
    """Make the call that `run_ranks` pickled into a file."""
    log_to_stdout()
    try:
        be_rank(*pickle.loads(Path(path).read_bytes()))  # noqa: S301
    except EpicError:
        # The launcher reports the error, so that it is reported once.
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
