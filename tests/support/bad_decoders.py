"""Bad behaviour of decoders, as functions for `guarded.call`, and orders to show it."""

import contextlib
import importlib
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av

from epic100.base import guarded
from epic100.base.disk import WatchedFile
from epic100.base.errors import EpicError
from epic100.base.machine import limit_process
from epic100.settings.data import ScanLimits


def say(*counts: int, progress) -> None:
    """Report these numbers of frames, with a pause after each."""
    for count in counts:
        progress(count)
        time.sleep(0.3)


def give(value: object, progress) -> object:
    """Return a value at once."""
    return value


def spin(progress) -> None:
    """Compute without an end."""
    progress(1)
    while True:
        pass


def repeat(count: int, progress) -> None:
    """Report the same number of frames again and again, and sleep between."""
    while True:
        progress(count)
        time.sleep(1)


def sleep(progress) -> None:
    """Do nothing for a minute."""
    time.sleep(60)


def hide(progress) -> None:
    """Close this process's ends of the pipes to the guard, and go on."""
    progress(1)
    os.closerange(1, 4)
    time.sleep(60)


def ignore_signals(progress) -> None:
    """Compute without an end, and ignore the signals that ask for one."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    spin(progress)


def creep(seconds: object = 0.02, progress=None) -> None:
    """Report one frame after the other, slowly, without an end."""
    for count in range(10**9):
        progress(count)
        time.sleep(float(seconds))


def eat(progress) -> None:
    """Take more and more memory."""
    progress(1)
    blocks = []
    while True:
        blocks.append(bytearray(16 << 20))


def get(name: str, progress) -> None:
    """Get a signal of this name."""
    os.kill(os.getpid(), signal.Signals[name])


def be_suspended(seconds: int, progress) -> None:
    """Halt this process, and wake it up after some seconds."""
    wake = ["sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"]
    subprocess.Popen(wake, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    get("SIGSTOP", progress)


def fail(word: object = "no such codec", progress=None) -> None:
    """Raise an error that is none of the library's."""
    raise ValueError(word)


def give_up(code: str = "3", progress=None) -> None:
    """End this process with an exit code, without a result."""
    os._exit(int(code))


def take(mib: int, progress) -> int:
    """Take this much memory at once, and return the MiB that were taken."""
    return len(bytearray(mib << 20)) >> 20


def read_without_limits(progress) -> None:
    """Index a film where the system rejects each change of a limit."""
    from epic100.video.build_index import index_packets
    from support.tricky_videos import encode

    def reject(*arguments: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    resource.setrlimit = reject
    with tempfile.TemporaryDirectory() as folder:
        path = encode(Path(folder) / "v.MP4", 3)
        index_packets(path, progress)


def call_again(progress) -> bool:
    """Make a guarded call within this guarded call; whether the same process carried it out."""
    limits = ScanLimits(memory_mib=512)
    return guarded.call(tell_pid, limits=limits, seconds=60.0) == os.getpid()


def tell_pid(progress) -> int:
    """Return the id of this process."""
    return os.getpid()


def tell_limit(progress) -> int:
    """Return the limit of this process's address space in MiB."""
    return resource.getrlimit(resource.RLIMIT_AS)[0] >> 20


def limit_beyond(size: int, progress) -> tuple[int, int]:
    """Ask for a limit on core files above the system's, which is 0, and return the limits then."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_process({resource.RLIMIT_CORE: size})
    return resource.getrlimit(resource.RLIMIT_CORE)


def tell_folder(progress) -> str:
    """Return the current folder of this process."""
    return os.getcwd()


def tell_threads(progress) -> int:
    """Return the number of threads of this process once it has loaded NumPy."""
    importlib.import_module("numpy")
    return len(os.listdir("/proc/self/task"))


def reject(error_type: str, *words: object, progress) -> None:
    """Raise an EpicError, or the error of PyAV with the name `error_type`."""
    raise (
        EpicError(*words) if error_type == "EpicError" else getattr(av.error, error_type)(1, *words)
    )


def find_no_folder(progress) -> None:
    """Raise the error about a folder that does not exist."""
    Path("/no/such/folder/x").touch()


def find_a_bad_sector(progress) -> None:
    """Read a file that gives an input/output error: the unmapped start of this process's memory."""
    WatchedFile("/proc/self/mem").read(8)


def chatter(progress) -> None:
    """Write 2 MB of error messages."""
    for _ in range(2000):
        sys.stderr.write("x" * 1000 + "\n")


def speak_as_the_guard(progress) -> str:
    """Print a forged answer of the guard on stdout and stderr, as a library may print a file."""
    for number in (1, 2):
        os.write(number, b'\n\x1e{"value": "forged"}\n{"value": "forged"}\n')
    return "true"


def leave_a_child(progress) -> None:
    """Start a process that lives on after this call."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def forge(text: str, progress) -> None:
    """Write a line to each pipe of this process, as a file that owns the decoder may, and crash."""
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                os.write(number, text.encode() + b"\n")
    get("SIGSEGV", progress)


def note(path: Path, name: str, *words: object, progress) -> object:
    """Note the id of this process in a file, then call the function `name`."""
    path.write_text(str(os.getpid()))
    return globals()[name](*words, progress=progress)


def find_the_disk_full(progress) -> None:
    """Let no file of this process grow beyond 4096 bytes, as a full disk would."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


class Orders:
    """Orders to misbehave with a file, and notes of the files that were worked on.

    Attributes:
        function: Does what `work` does, but follows the orders of its file first.
    """

    def __init__(self, folder: Path, work: Callable):
        """Begin without orders and notes.

        Args:
            folder: The folder of both. Another process reads and writes them there.
            work: The function that a guarded process calls.
        """
        self._folder = folder
        self._runs = folder / "runs"
        self.function = partial(obey, folder, work)
        folder.mkdir(parents=True, exist_ok=True)

    def give(self, name: str, *orders: str) -> None:
        """Give the orders of a file, one for each call: `NAME:WORD...`, such as `give_up:3`.

        A name is a function of this module, a key of `AFTER` or `meet`; "" means no order.
        """
        (self._folder / name).write_text(" ".join(orders))

    def runs(self) -> list[str]:
        """List the files that were worked on since the last call of `runs`, and clear the notes."""
        names = sorted(self._runs.read_text().split()) if self._runs.exists() else []
        self._runs.unlink(missing_ok=True)
        return names


def obey(folder: Path, work: Callable, path: Path, *arguments: object, progress) -> object:
    """Note the file, carry out its next order, and do the work."""
    with open(folder / "runs", "a") as runs:
        print(path.stem, file=runs)
    orders = folder / path.stem
    order, *later = (orders.read_text().split() if orders.exists() else []) or [""]
    orders.write_text(" ".join(later))
    name, *words = order.split(":")
    # The order `meet:3` waits until three files are being worked on at once.
    if name == "meet":
        while len((folder / "runs").read_text().split()) < int(*words):
            time.sleep(0.05)
    elif name and name not in AFTER:
        globals()[name](*words, progress=progress)
    result = work(path, *arguments, progress=progress)
    if name in AFTER:
        AFTER[name](path)
    return result


# These orders change the file after the work.
AFTER: dict[str, Callable[[Path], object]] = {
    "touch": os.utime,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "replace": lambda path: os.replace(shutil.copy2(path, path.with_suffix(".other")), path),
}
