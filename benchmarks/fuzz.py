"""Change valid files at random and read them, in processes with limits, for as long as asked.

python benchmarks/fuzz.py --seconds 3600 [--only model] [--seed 7] [--keep FOLDER]

Readers and changes are those of the tests (tests/support/fuzzing.py); `video` scans a film as the
rule scan does, FFmpeg included. A finding is anything but a result or an EpicError: another
exception, a process that dies, more than the memory limit, or an input that takes too long. The
inputs of findings are kept. The last line is a JSON object.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

# Torch and its libraries have 3 to 4 GiB of address space before they read a byte.
MEMORY = 6 * 2**30
# Reading may add this many KiB to the resident memory.
GROWTH = 2**20
# A process reads this many inputs.
BATCH = 200
# An input may take this many seconds.
SLOW = 60.0


def work(name: str, seed: int, folder: Path, count: int) -> int:
    """Read `count` changed files, and print a line of JSON for each."""
    from support.fuzzing import FILMS, TARGETS, attempt

    warnings.simplefilter("ignore")
    target, rng = (TARGETS | FILMS)[name], random.Random(seed)
    seeds = target.seeds(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        data = target.change(rng.choice(seeds), rng)
        (folder / "last").write_bytes(data)
        started, why = time.monotonic(), ""
        try:
            attempt(target, data, folder)
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f for f in frames if "epic100" in f.filename] or frames
            why = f"{type(error).__name__}: {str(error)[:200]} at {ours[-1].name}:{ours[-1].lineno}"
        if time.monotonic() - started > SLOW:
            why = f"took {time.monotonic() - started:.0f} s"
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if grown > GROWTH:
            why, before = f"{grown >> 10} MiB", before + grown
        print(
            json.dumps({"read": number + 1, "why": why, "input": data.hex() if why else ""}),
            flush=True,
        )
    return 0


def run(name: str, seed: int, count: int) -> tuple[int, list[tuple[str, bytes]]]:
    """Read inputs in a process of its own; return their number and the findings."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--work", name, str(seed), folder, str(count)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SLOW * 5 + count)
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as late:
            code, out, err = 1, (late.stdout or b"").decode(), "hangs"
        lines = [json.loads(line) for line in out.splitlines() if line.endswith("}")]
        findings = [(line["why"], bytes.fromhex(line["input"])) for line in lines if line["why"]]
        last = Path(folder, "last")
        if code and last.exists():
            why = f"the process ended with {code}: {err.strip()[-200:]}"
            findings.append((why, last.read_bytes()))
        elif code:
            raise SystemExit(err)
        return len(lines), findings


def main() -> int:
    """Take the targets in turn until the time is over."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--only", help="one target")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--keep", type=Path, default=Path("fuzz_findings"))
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        name, seed, folder, count = options.work
        return work(name, int(seed), Path(folder), int(count))
    from support.fuzzing import FILMS, TARGETS

    names = [options.only] if options.only else [*TARGETS, *FILMS]
    read, findings, began, turn = dict.fromkeys(names, 0), {}, time.monotonic(), 0
    while time.monotonic() - began < options.seconds:
        name = names[turn % len(names)]
        count, new = run(name, options.seed + turn, BATCH)
        read[name] += count
        for why, data in new:
            key = f"{name}: {why}"
            if key not in findings:
                options.keep.mkdir(exist_ok=True)
                (options.keep / f"{name.replace(', ', '_')}-{len(findings)}.bin").write_bytes(data)
                print(key, flush=True)
            findings[key] = findings.get(key, 0) + 1
        turn += 1
    total = sum(read.values())
    print(
        f"seed {options.seed}: {total} inputs of {len(names)} readers in "
        f"{time.monotonic() - began:.0f} s, {len(findings)} kinds of findings"
    )
    print(json.dumps({"inputs": total, "findings": len(findings), "read": read}))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
