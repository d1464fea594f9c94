"""Linters and tests, side by side: `lint tests`, `thorough slurm`, or `lint all slurm lowest`.

Tests are on the screen. At the end follows what the linters, the tests on Slurm and those on the
lowest versions said, with the minutes that all took. Other arguments go to pytest.
"""

import ctypes
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

PYTEST = [sys.executable, "-m", "pytest", "--durations", "10"]
COMMANDS = {
    "lint": ["make", "--no-print-directory", "lint"],
    "slurm": [*PYTEST, "tests/slurm"],
    "lowest": [sys.executable, "tests/tools/lowest_versions.py"],
    "tests": [*PYTEST, "--ignore", "tests/slurm", "-m", "not thorough and not weekly"],
    "thorough": [*PYTEST, "--ignore", "tests/slurm", "-m", "thorough and not weekly"],
    "all": [*PYTEST, "--ignore", "tests/slurm", "-m", ""],
}
QUIET = ("lint", "slurm", "lowest")
# The number is from linux/prctl.h.
PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Run what the arguments name, with the others for pytest; 0 if all is well."""
    chosen = [name for name in arguments if name in COMMANDS]
    arguments = [word for word in arguments if word not in COMMANDS]
    # A process whose parent has ended is counted here as well.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    build = Path("build")
    build.mkdir(exist_ok=True)
    start, running, failed = time.monotonic(), {}, []
    for name in chosen:
        command = COMMANDS[name]
        more = [] if name == "lint" else arguments
        with (build / f"{name}.txt").open("w") as said:
            output = said if name in QUIET else None
            process = subprocess.Popen([*command, *more], stdout=output, stderr=output)
        running[process.pid] = name
    while running:
        pid, status = os.waitpid(-1, 0)
        if (name := running.pop(pid, None)) and status:
            failed.append(name)
    for name in filter(chosen.__contains__, QUIET):
        print(f"\n{name}:\n{(build / f'{name}.txt').read_text()}", end="")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu, wall = (used.ru_utime + used.ru_stime) / 60, (time.monotonic() - start) / 60
    print(f"\n{wall:.1f} minutes, {cpu:.1f} minutes of CPU; failed: {', '.join(failed) or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
