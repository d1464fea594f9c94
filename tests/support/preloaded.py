"""A Python that has imported the heavy packages once and forks: programs start in no time.

`run` is `subprocess.run([sys.executable, ...], capture_output=True)` in such a fork. For Snakemake
there, for `epic100`, which becomes Snakemake, and for scripts, `sys.executable` is a program that
asks for one more fork for Snakemake, its scripts and the start check, and else is Python.
Only for programs that run to their end; those that a test kills are started plainly.
"""

import array
import contextlib
import json
import os
import shlex
import signal
import socket
import struct
import sys

# The program that asks starts for each script, so the top of this file imports little: functions
# import the rest.
PRELOADED = (
    "snakemake.cli",
    "snakemake.script",
    "snakemake.storage",
    "snakemake.report.html_reporter",
    "smart_open",
    "requests",
    "pydantic",
    "pandas",
    "epic100.training.check",
)
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def ask(address: str, words, cwd, environment, files, timeout=None, forwarded=()) -> int:
    """Have the server run `python words...`; its exit code, negative for a signal."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        for number in forwarded:
            signal.signal(number, lambda number, _: server.send(bytes([number])))
        text = json.dumps([list(words), str(cwd), dict(environment)]).encode()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))
        server.sendmsg([struct.pack("I", len(text))], [rights])
        server.sendall(text)
        server.settimeout(timeout)
        answer = server.recv(4)
    return struct.unpack("i", answer)[0] if answer else -signal.SIGKILL


def run(*words: str, cwd, timeout: float):
    """Run `python words...` in a fork of the server, which ends with this process."""
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull) as null:
        files = [null.fileno(), out.fileno(), err.fileno()]
        code = ask(_server(), words, cwd, os.environ, files, timeout)
        out.seek(0), err.seek(0)
        texts = [file.read().decode(errors="replace") for file in (out, err)]
    return subprocess.CompletedProcess(words, code, *texts)


def _python(address: str) -> str:
    return f"{os.path.dirname(address)}/python"


# A process finds its server by its own id, so a fork gets another one.
_servers: dict[int, tuple] = {}


def _server() -> str:
    import subprocess
    import tempfile

    if os.getpid() not in _servers:
        folder = tempfile.TemporaryDirectory(prefix="epic100-")
        address = f"{folder.name}/socket"
        python, this = shlex.quote(sys.executable), shlex.quote(__file__)
        with open(_python(address), "w") as program:
            program.write(f"""#!/bin/sh
case "$1" in
*.py) ;;
-P) case "$3" in snakemake|epic100.inputs.start_check) ;; *) exec {python} "$@" ;; esac ;;
*) exec {python} "$@" ;;
esac
exec {python} -IS {this} ask {address} "$@"
""")
        os.chmod(program.name, 0o755)
        command = [sys.executable, __file__, "serve", address]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        # The server's stdin closes with this process.
        _servers[os.getpid()] = (address, folder, process)
    return _servers[os.getpid()][0]


def serve(address: str) -> None:
    """Fork for each call, until standard input ends."""
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
                return _become(*_keep(connection), address)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _keep(connection):
    """Fork once more and return there what to run. This process passes signals on to that one, ends
    it when nobody waits for it any more, and ends with it."""
    import select

    size, files, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as stream:
        asked = json.loads(stream.read(struct.unpack("I", size)[0]))
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
        return asked
    for file in files:
        os.close(file)
    while ended not in select.select([ended, connection], [], [])[0]:
        if not (number := connection.recv(1)):
            os.killpg(child, signal.SIGKILL)
            break
        os.kill(child, number[0])
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        connection.send(struct.pack("i", code))
    os._exit(0)


def _become(words: list[str], cwd: str, environment: dict, address: str) -> None:
    """Run the program as `python words...` would. Its end is the end of this process."""
    import runpy

    import torch

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    # OpenMP has been loaded and does not read this variable again.
    if threads := environment.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    safe = words[0] == "-P"
    words = words[safe:]
    module = words[0] == "-m"
    sys.argv = words[module:]
    sys.path[:1] = [] if safe else [cwd if module else os.path.dirname(words[0])]
    if not module or words[1] in ("snakemake", "epic100"):
        sys.executable = _python(address)
    if module:
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(
            ask(sys.argv[2], sys.argv[3:], os.getcwd(), os.environ, [0, 1, 2], None, FORWARDED)
        )
