"""Start Python programs fast, in forks of a server that has imported the heavy packages.

`run` does what `subprocess.run([sys.executable, ...], capture_output=True)` does, in such a fork.
Snakemake starts its scripts and itself with `sys.executable`. In a fork this is a small program: it
asks the server for another fork for Snakemake, scripts and the trial, and else it is Python.
Use it only for programs that run to their end. Programs that a test kills are started plainly.

A request is a line of JSON, and the answer is the exit code.
"""

import contextlib
import functools
import json
import os
import shlex
import signal
import socket
import sys

# This file is also the small program, which starts for each script. So its top imports little, and
# functions import the rest.
PRELOADED = (
    "snakemake.cli",
    "snakemake.script",
    "snakemake.storage",
    "snakemake.report.html_reporter",
    "smart_open",
    "requests",
    "pydantic",
    "pandas",
    "epic100.prediction.predict",
    "epic100.training.train",
)
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def ask(address: str, words, cwd, environment, files, timeout=None, forwarded=()) -> int:
    """Let the server run `python words...`, and return the exit code, negative for a signal.

    Args:
        address: The socket of the server.
        words: The arguments of Python.
        cwd: The folder of the program.
        environment: The environment variables of the program.
        files: Descriptors for standard input, output and error.
        timeout: Seconds to wait; None means for ever.
        forwarded: Signals of this process that are passed on to the program.
    """
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        for number in forwarded:
            signal.signal(number, lambda number, _: server.send(bytes([number])))
        request = json.dumps([list(words), str(cwd), dict(environment)]).encode() + b"\n"
        # The three files travel with the first byte.
        socket.send_fds(server, [request[:1]], files)
        server.sendall(request[1:])
        server.settimeout(timeout)
        answer = server.recv(16)
    # Without an answer the process that watches the program was killed.
    return int(answer) if answer else -signal.SIGKILL


def run(*words: str, cwd, timeout: float):
    """Run `python words...` in a fork of the server, which ends with this process."""
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull) as null:
        files = [null.fileno(), out.fileno(), err.fileno()]
        # A process finds its server by its own id, so a fork gets another one.
        address, *_ = _server(os.getpid())
        code = ask(address, words, cwd, os.environ, files, timeout)
        out.seek(0)
        err.seek(0)
        texts = [file.read().decode(errors="replace") for file in (out, err)]
    return subprocess.CompletedProcess(words, code, *texts)


def _python(address: str) -> str:
    """Return the path of the small program that stands for Python in a fork."""
    return f"{os.path.dirname(address)}/python"


@functools.cache
def _server(number: int) -> tuple:
    """Start the server of the process of this number; return its address, folder and process."""
    import subprocess
    import tempfile

    folder = tempfile.TemporaryDirectory(prefix="epic100-")
    address = f"{folder.name}/socket"
    python, this = shlex.quote(sys.executable), shlex.quote(__file__)
    with open(_python(address), "w") as program:
        program.write(f"""#!/bin/sh
case "$1" in
*.py) ;;
-P) case "$3" in snakemake|epic100.training.trial) ;; *) exec {python} "$@" ;; esac ;;
*) exec {python} "$@" ;;
esac
exec {python} -IS {this} ask {address} "$@"
""")
    os.chmod(program.name, 0o755)
    command = [sys.executable, __file__, "serve", address]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    # The folder goes and the server's stdin closes with this process, since the cache keeps both.
    return address, folder, process


def serve(address: str) -> None:
    """Be the server: fork for each request, until standard input ends."""
    import gc
    import importlib
    import select

    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    # Without this, the first collection of each fork would write to all that was imported, and so
    # copy it.
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                return _become(*_start(connection), address)
            connection.close()
            # This removes the forks that have ended from the table of processes.
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _start(connection):
    """Fork once more, and return in the new process the request: words, folder, environment.

    The new process becomes the program. This one watches it: it passes signals on to the program,
    kills it when nobody waits for it any more, sends its exit code, and ends with it.
    """
    import select

    first_byte, files, _, _ = socket.recv_fds(connection, 1, 3)
    # Without a buffer, nothing is read of the signals that may follow the line.
    with connection.makefile("rb", buffering=0) as stream:
        request = json.loads(first_byte + stream.readline())
    # Python writes to the pipe when a child ends, so that `select` below sees it.
    ended, end = os.pipe()
    os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(end)
    if (child := os.fork()) == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for number, file in enumerate(files):
            os.dup2(file, number)
        for file in (*files, connection.detach(), ended, end):
            os.close(file)
        return request
    for file in files:
        os.close(file)
    while ended not in select.select([ended, connection], [], [])[0]:
        if not (message := connection.recv(1)):
            os.killpg(child, signal.SIGKILL)
            break
        # A message is one byte, the number of a signal.
        (signal_number,) = message
        os.kill(child, signal_number)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(OSError):
        connection.sendall(str(code).encode())
    os._exit(0)


def _become(words: list[str], cwd: str, environment: dict, address: str) -> None:
    """Run a program in this process as `python words...` would, and end the process with it."""
    import runpy

    import torch

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    # OpenMP has been loaded and does not read this variable again.
    if threads := environment.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    # The words are `[-P] -m MODULE ARGUMENT...` or `[-P] SCRIPT ARGUMENT...`. With -P, Python does
    # not put the folder of the program at the beginning of its path.
    is_safe_path = words[0] == "-P"
    if is_safe_path:
        words = words[1:]
    is_module = words[0] == "-m"
    sys.argv = words[1:] if is_module else words
    program, *_ = sys.argv
    sys.path[:1] = [] if is_safe_path else [cwd if is_module else os.path.dirname(program)]
    if not is_module or program in ("snakemake", "epic100"):
        sys.executable = _python(address)
    if is_module:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(
            ask(sys.argv[2], sys.argv[3:], os.getcwd(), os.environ, [0, 1, 2], None, FORWARDED)
        )
