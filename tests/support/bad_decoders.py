"""What decoders may do, each a function for `guarded.call`, and orders to do it to a video."""

import os
import resource
import shutil
import signal
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
from epic100.settings import ScanLimits


def say(*counts: int, progress) -> None:
    for count in counts:
        progress(count)
        time.sleep(0.3)


def give(value: object, progress) -> object:
    return value


def spin(progress) -> None:
    progress(1)
    while True:
        pass


def repeat(count: int, progress) -> None:
    while True:
        progress(count)
        time.sleep(0.05)


def sleep(progress) -> None:
    time.sleep(60)


def hide(progress) -> None:
    """Close its ends of the pipes."""
    progress(1)
    os.closerange(1, 4)
    time.sleep(60)


def ignore_signals(progress) -> None:
    for number in (1, 2, 15):
        signal.signal(number, signal.SIG_IGN)
    spin(progress)


def creep(seconds: float = 0.02, progress=None) -> None:
    for count in range(10**9):
        progress(count)
        time.sleep(seconds)


def eat(progress) -> None:
    progress(1)
    eaten = []
    while True:
        eaten.append(bytearray(16 << 20))


def get(name: str, progress) -> None:
    os.kill(os.getpid(), signal.Signals[name])


def be_suspended(seconds: int, progress) -> None:
    wake = ["sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"]
    subprocess.Popen(wake, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    get("SIGSTOP", progress)


def fail(word: object = "no such codec", progress=None) -> None:
    raise ValueError(word)


def give_up(code: str = "3", progress=None) -> None:
    os._exit(int(code))


def take(mib: int, progress) -> int:
    return len(bytearray(mib << 20)) >> 20


def read_without_limits(progress) -> None:
    """Index a film where the system refuses each change of a limit."""
    from epic100.video.index import index_packets
    from support.tricky_videos import encode

    def refuse(*arguments: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    resource.setrlimit = refuse
    with tempfile.TemporaryDirectory() as folder:
        path = encode(Path(folder) / "v.MP4", 3)
        index_packets(path, progress)


def call_again(progress) -> bool:
    limits = ScanLimits(memory_mib=512)
    return guarded.call(tell_pid, limits=limits, seconds=60.0) == os.getpid()


def tell_pid(progress) -> int:
    return os.getpid()


def tell_limit(progress) -> int:
    return resource.getrlimit(resource.RLIMIT_AS)[0] >> 20


def limit_beyond(size: int, progress) -> tuple[int, int]:
    """The limits on a core file where the system allows none."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_process({resource.RLIMIT_CORE: size})
    return resource.getrlimit(resource.RLIMIT_CORE)


def tell_folder(progress) -> str:
    return os.getcwd()


def tell_threads_of_the_server(progress) -> int:
    return len(os.listdir(f"/proc/{os.getppid()}/task"))


def refuse(kind: str, *words: object, progress) -> None:
    """Raise an error of the library or of FFmpeg."""
    raise EpicError(*words) if kind == "EpicError" else getattr(av.error, kind)(1, *words)


def find_no_folder(progress) -> None:
    Path("/no/such/folder/x").touch()


def find_a_bad_sector(progress) -> None:
    WatchedFile("/proc/self/mem").read(8)


def chatter(progress) -> None:
    for _ in range(2000):
        sys.stderr.write("x" * 1000 + "\n")


def speak_as_the_guard(progress) -> str:
    """Say on stdout and stderr that all went well, as a library does that repeats a file."""
    for number in (1, 2):
        os.write(number, b'\n\x1e{"value": "forged"}\n{"value": "forged"}\n')
    return "true"


def leave_a_child(progress) -> None:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


# Each fork adds its id, and the next fork must not see it.
SEEN: list[int] = []


def be_new(progress) -> None:
    assert not SEEN
    SEEN.append(os.getpid())


def note(path: Path, name: str, *words: object, progress) -> object:
    """Note the server and this fork of it, then go on."""
    with open(path, "a") as file:
        print(os.getppid(), os.getpid(), file=file)
    return globals()[name](*words, progress=progress)


def kill_after_a_while(whom: str, progress) -> None:
    time.sleep(1)
    os.kill({"server": os.getppid(), "fork": os.getpid()}[whom], signal.SIGKILL)
    time.sleep(60)


def find_the_disk_full(progress) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


class Orders:
    """Gives orders and tells which were carried out. `function` works as `work` does, on order."""

    def __init__(self, folder: Path, work: Callable):
        self._folder, self._runs = folder, folder / "runs"
        self.function = partial(obey, folder, work)
        folder.mkdir(parents=True, exist_ok=True)

    def give(self, name: str, *orders: str) -> None:
        """What is done with a file, now and at later calls: `NAME:WORD...`."""
        (self._folder / name).write_text(" ".join(orders))

    def ran(self) -> list[str]:
        """Files that were worked on since the last call of `runs`."""
        return sorted(self._runs.read_text().split()) if self._runs.exists() else []

    def runs(self) -> list[str]:
        names = self.ran()
        self._runs.unlink(missing_ok=True)
        return names


def obey(folder: Path, work: Callable, path: Path, *arguments: object, progress) -> object:
    with open(folder / "runs", "a") as runs:
        print(path.stem, file=runs)
    orders = folder / path.stem
    order, *later = (orders.read_text().split() if orders.exists() else []) or [""]
    orders.write_text(" ".join(later))
    name, *words = order.split(":")
    # It waits until so many files are being worked on at once.
    if name == "meet":
        while len((folder / "runs").read_text().split()) < int(*words):
            time.sleep(0.05)
    elif name and name not in AFTER:
        globals()[name](*words, progress=progress)
    result = work(path, *arguments, progress=progress)
    if name in AFTER:
        AFTER[name](path)
    return result


AFTER: dict[str, Callable[[Path], object]] = {
    "touch": os.utime,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "replace": lambda path: os.replace(shutil.copy2(path, path.with_suffix(".other")), path),
}
