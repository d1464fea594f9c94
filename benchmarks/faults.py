"""Lets system calls of the rules fail one at a time, and looks what becomes of their outputs.

    python benchmarks/faults.py [--every 1] [--only scan] [--jobs 1]

A shim (faults_shim.c, built with gcc) is preloaded into the rule's process and all that it starts.
It counts opens, reads, writes, fsyncs, renames and closes of files below the run's folder, inputs
included, and lets one of them fail with EIO or ENOSPC, or kills the process there. Then:

clear line    the rule ended with one line `error: ...` as its last
traceback     it ended with another error
went on       it succeeded, its outputs the same as without a fault
WRONG         it succeeded with other outputs, or the same command does not make the right ones now
killed        it was killed, and the same command made the right outputs

After each fault the same command runs again without one; its outputs must be the same bytes as
ever, and no temporary file may be left. The last line printed is one JSON object.
"""

import argparse
import collections
import contextlib
import errno
import itertools
import json
import os
import queue
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import faults_rules
from faults_rules import RULES

from epic100.base.log import rule_log

SHIM = Path(__file__).with_name("faults_shim.c")
FAULTS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "killed": 0}
OUTCOMES = ("clear line", "traceback", "went on", "killed", "WRONG")
# x264's assembly: copies of one video may differ in bytes. Of them and their table the names, the
# states and the pictures' sizes are compared, and whether one is a link.
VARYING = ("proxies",)


@dataclass
class Fault:
    """One fault and what became of it."""

    rule: str
    call: int
    kind: str
    outcome: str
    words: str


def build_shim(folder: Path) -> Path:
    """Compile the shim. Raises FileNotFoundError where there is no gcc."""
    out = folder / "faults_shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", out, SHIM, "-ldl"], check=True)
    return out


class Server:
    """A process that has imported all and runs each rule in a fork of itself, with the shim."""

    def __init__(self, shim: Path):
        self.shim = shim
        env = os.environ | {"LD_PRELOAD": str(shim), "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, **request: str | dict) -> int:
        """Run a rule; returns its exit code, negative for a signal."""
        assert self._process.stdin and self._process.stdout
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve() -> None:
    """Run what `Server` asks for, until its end."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _run_here(request)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run_here(request: dict) -> NoReturn:
    """Run a rule as a script of Snakemake does, and end this process."""
    with open(request["said"], "w") as said, open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    os.environ.update(request["env"])
    code, folder = 0, Path(request["folder"])
    try:
        with rule_log(folder / f"results/logs/{request['rule']}.log"):
            RULES[request["rule"]](folder)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        code = 1
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(rule: str, folder: Path, server: Server, at: int = 0, number: int = 0):
    """Run a rule with a fault at call `at`; (exit code, last line, calls, faults done)."""
    with tempfile.TemporaryDirectory(dir=server.shim.parent) as name:
        state, said = Path(name) / "state", Path(name) / "said"
        state.write_bytes(bytes(16))
        env = {"FAULT_STATE": str(state), "FAULT_BELOW": str(folder), "FAULT_AT": str(at),
               "FAULT_ERRNO": str(number)}  # fmt: skip
        code = server.run(rule=rule, folder=str(folder), said=str(said), env=env)
        calls, faults = struct.unpack("2q", state.read_bytes())
        lines = said.read_text(errors="replace").strip().splitlines() or [""]
    return code, lines[-1], calls, faults


def outputs(folder: Path, rule: str) -> dict[str, bytes]:
    """What a rule made, by name; of copies only what is the same every time."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        name = str(path.relative_to(folder / "results"))
        # Of the scan's cache and the receipts of files the content depends on place and time.
        kept = {"cache", "receipts"}.intersection(path.parts)
        if not path.is_file() or kept or path.suffix == ".log":
            continue
        if name.startswith(VARYING):
            columns = [line.split("\t")[:6] for line in path.read_text().splitlines()] \
                if path.suffix == ".tsv" else path.is_symlink()  # fmt: skip
            found[name] = repr(columns).encode()
        else:
            found[name] = path.read_bytes()
    return found


def leftovers(folder: Path) -> list[Path]:
    """Temporary files below the results."""
    return [path for path in (folder / "results").rglob(".*") if ".tmp" in path.name]


def prepare(folder: Path, rule: str, server: Server) -> None:
    """A run's folder in which everything before `rule` is made."""
    faults_rules.inputs(folder)
    for before in itertools.takewhile(lambda name: name != rule, RULES):
        code, words, *_ = run(before, folder, server)
        if code:
            raise RuntimeError(f"{before} fails without a fault: {words}")
        if before == "clean":
            faults_rules.predictions(folder)


def inject(rule: str, model: Path, server: Server, expected: dict, at: int, kind: str) -> Fault:
    """One fault in a copy of the folder `model`, and the same command again."""
    with tempfile.TemporaryDirectory(dir=server.shim.parent) as name:
        folder = Path(name) / "run"
        shutil.copytree(model, folder, symlinks=True)
        code, words, _, faults = run(rule, folder, server, at, FAULTS[kind])
        made = outputs(folder, rule)
        again, later, *_ = run(rule, folder, server)
        right = not again and outputs(folder, rule) == expected and not leftovers(folder)
    if not right:
        outcome, words = "WRONG", f"{words} / {later}"
    elif code == 0:
        outcome = "went on" if made == expected else "WRONG"
    elif kind == "killed" and (code == -signal.SIGKILL or "ended from outside" in words):
        outcome = "killed"
    else:
        outcome = "clear line" if words.startswith("error: ") else "traceback"
    return Fault(rule, at, kind if faults else f"{kind} (not reached)", outcome, words[:300])


def faults_of(
    rule: str, folder: Path, shim: Path, every: int, jobs: int, most: int | None = None
) -> Iterator[Fault]:
    """Each `every`th call of a rule, with each kind of fault; `most` of them, spread evenly."""
    servers: queue.SimpleQueue[Server] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(jobs) as pool:
        for _ in range(jobs):
            server = Server(shim)
            stack.callback(server.close)
            servers.put(server)
        model, whole = folder / f"model-{rule}", folder / f"whole-{rule}"
        prepare(model, rule, server)
        shutil.copytree(model, whole, symlinks=True)
        code, words, calls, _ = run(rule, whole, server)
        if code:
            raise RuntimeError(f"{rule} fails without a fault: {words}")
        expected = outputs(whole, rule)
        # Paths in outputs are of the run's own folder; every run has one of the same name.
        places = [(at, kind) for at in range(1, calls + 1, every) for kind in FAULTS]
        if most:
            stride = max(len(places) // most, 1)
            stride -= stride > 1 and stride % len(FAULTS) == 0  # or all are of one kind
            places = places[::stride][:most]

        def one(place: tuple[int, str]) -> Fault:
            free = servers.get()
            try:
                return inject(rule, model, free, expected, *place)
            finally:
                servers.put(free)

        yield from pool.map(one, places)


def main() -> None:
    """Inject the faults and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="only each Nth call")
    parser.add_argument("--only", choices=RULES, help="one rule")
    parser.add_argument("--most", type=int, help="faults a rule, spread over its calls")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print each that is no clear line")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    started = time.monotonic()
    table: dict[str, collections.Counter] = {}
    with tempfile.TemporaryDirectory() as folder:
        shim = build_shim(Path(folder))
        for rule in [options.only] if options.only else RULES:
            table[rule] = collections.Counter()
            for fault in faults_of(
                rule, Path(folder), shim, options.every, options.jobs, options.most
            ):
                table[rule][fault.outcome] += 1
                if options.show and fault.outcome in ("WRONG", "traceback"):
                    print(fault, flush=True)
            print(rule, dict(table[rule]), flush=True)
    total = sum(sum(counts.values()) for counts in table.values())
    print(f"{total} faults, {time.monotonic() - started:.0f} s")
    print(json.dumps({rule: {name: counts[name] for name in OUTCOMES}
                      for rule, counts in table.items()}))  # fmt: skip


if __name__ == "__main__":
    main()
