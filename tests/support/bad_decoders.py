"""Decoders that misbehave, each a function: `python bad_decoders.py NAME WORD...`.

Without arguments it serves such orders (`epic100.video.fork_server`). `obey` is the server of a
scan: what its decoders are to do stands in files beside the videos.
"""

import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def say(*words: object) -> None:
    print(*words, flush=True)


def spin() -> None:
    say("frames 1")
    while True:
        pass


def repeat(*words: str) -> None:
    while True:
        say(*words)
        time.sleep(0.05)


def sleep() -> None:
    time.sleep(60)


def hide() -> None:
    """Close its ends of the pipes."""
    say("frames 1")
    os.closerange(1, 3)
    sleep()


def ignore_signals() -> None:
    for number in (1, 2, 15):
        signal.signal(number, signal.SIG_IGN)
    spin()


def creep() -> None:
    for count in range(10**6):
        say("frames", count)
        time.sleep(0.02)


def eat() -> None:
    say("frames 1")
    eaten = []
    while True:
        eaten.append(bytearray(16 << 20))


def get(name: str) -> None:
    os.kill(os.getpid(), signal.Signals[name])


def get_later(name: str) -> None:
    say("frames 1")
    get(name)


def be_suspended(seconds: str) -> None:
    say("frames 0")
    wake = ["sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"]
    subprocess.Popen(wake, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    get("SIGSTOP")


def fail(word: object = "no such codec") -> None:
    say("frames 1")
    raise ValueError(word)


def give_up(code: str = "3") -> None:
    say("frames 1")
    sys.exit(int(code))


def tell_limit() -> None:
    fail(resource.getrlimit(resource.RLIMIT_AS)[0] >> 20)


def tell_threads_of_the_server() -> None:
    fail(len(os.listdir(f"/proc/{os.getppid()}/task")))


def judge(kind: str, *words: object) -> None:
    """End as the library's decoders do."""
    import av

    from epic100.base.disk import WatchedFile
    from epic100.base.errors import EpicError
    from epic100.video.decoder_process import own_faults

    with own_faults():
        if kind == "bad_sector":
            WatchedFile("/proc/self/mem").read(8)
        elif kind == "no_folder":
            Path("/no/such/folder/x").touch()
        raise EpicError(*words) if kind == "EpicError" else getattr(av.error, kind)(1, *words)


def start_amiss() -> None:
    runpy.run_module("no_such_module")


def chatter() -> None:
    for _ in range(2000):
        sys.stderr.write("x" * 1000 + "\n")


def leave_a_child() -> None:
    say("frames 3")
    subprocess.Popen([sys.executable, __file__, "sleep"])


def speak_in_pieces() -> None:
    for part in ("fra", "mes 1", "0\nframes 2", "0\n", "frames 30\n"):
        print(part, end="", flush=True)
        time.sleep(0.05)


SEEN: list[int] = []  # what a fork leaves there, the next one must not see


def be_new() -> None:
    assert not SEEN
    SEEN.append(os.getpid())


def note(path: str, name: str = "say", *words: str) -> None:
    """Note the server and this fork of it, then go on."""
    with open(path, "a") as file:
        print(os.getppid(), os.getpid(), file=file)
    say("frames 0")
    globals()[name](*words)


def kill_after_a_while(whom: str) -> None:
    time.sleep(1)
    os.kill({"server": os.getppid(), "fork": os.getpid()}[whom], signal.SIGKILL)
    sleep()


def watch(*words: str) -> None:
    """Run such a decoder as a fork; say what is heard of it, and why it gave no result."""
    from epic100.settings import ScanLimits
    from epic100.video.decoder_process import run_decoder
    from epic100.video.fork_server import ForkServers

    with ForkServers((sys.executable, __file__), 60.0) as servers:
        say(run_decoder(words, ScanLimits(memory_mib=512), 60.0, say, servers.fork))


def meet(count: str) -> None:
    """Wait for others of the scan."""
    while len((Path(sys.argv[1]).parents[1] / "runs").read_text().split()) < int(count):
        time.sleep(0.05)


def obey() -> None:
    """Do the next of the video's orders, `NAME:WORD...`, then scan."""
    import epic100.scan.worker as worker
    from epic100.video.fork_server import arguments_of_orders

    sys.argv[1:] = arguments_of_orders()
    path, out = map(Path, sys.argv[1:3])
    with open(path.parents[1] / "runs", "a") as runs:
        print(path.stem, file=runs)
    orders = path.with_suffix(".order")
    order, *later = (orders.read_text().split() if orders.exists() else []) or [""]
    orders.write_text(" ".join(later))
    now, *words = order.split(":")
    if now in globals():
        globals()[now](*words)
    if now == "leave_rubbish":
        out.write_bytes(b"no result")
    if now in ("leave_rubbish", "leave_nothing"):
        return say("frames 0")
    worker.main()
    if now == "touch":
        os.utime(path)
    elif now == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif now == "replace":
        other = shutil.copy2(path, path.with_suffix(".other"))
        os.replace(other, path)


if __name__ == "__main__":
    if not sys.argv[1:]:
        from epic100.video.fork_server import arguments_of_orders

        sys.argv[1:] = arguments_of_orders()
    globals()[sys.argv[1]](*sys.argv[2:])
