"""Linters and tests, side by side: `lint tests`, `thorough slurm`, or `lint all slurm snakemake`.

Tests are on the screen. At the end follows what the linters, the tests on Slurm and those on the
lowest Snakemake said, with the minutes that all took. Other arguments go to pytest.

Where files differ from the last commit, `tests` begins with the quick tests that reach them, and
ends there if one fails.
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
    "snakemake": [sys.executable, "tests/tools/lowest_snakemake.py"],
    "tests": [*PYTEST, "--ignore", "tests/slurm", "-m", "not thorough and not weekly"],
    "thorough": [*PYTEST, "--ignore", "tests/slurm", "-m", "thorough and not weekly"],
    "all": [*PYTEST, "--ignore", "tests/slurm", "-m", ""],
}
QUIET = ("lint", "slurm", "snakemake")
# This is pytest's exit code if no test was chosen.
NO_TESTS = 5
# The number is from linux/prctl.h.
PR_SET_CHILD_SUBREAPER = 36


def reached() -> list[str]:
    """List the files of tests that may find a fault in what differs from the last commit."""
    if not Path(".git").exists():
        return []
    command = ["git", "status", "--porcelain", "--untracked-files=all", "--no-renames"]
    status = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    changed = [path for line in status.stdout.splitlines() if (path := Path(line[3:])).exists()]
    files = [str(path) for path in changed if path.match("tests/*/test_*.py")]
    if modules := [path for path in changed if path.match("workflow/epic100/*/*.py")]:
        from mutants import nearest

        files += [file for module in modules for file in nearest(Path(), module)]
    return list(dict.fromkeys(files))


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
    minutes_file = build / f"{'-'.join(chosen)}.minutes"
    if "tests" in chosen and (files := reached()):
        quick = [*PYTEST, "-q", "-m", "not slow and not weekly", *arguments, *files]
        if subprocess.run(quick).returncode not in (0, NO_TESTS):
            print("\nThese tests reach what differs from the last commit. The others did not run.")
            return 1
        last = minutes_file.read_text() if minutes_file.exists() else "an unknown number of"
        print(f"\nNow all tests. The last time they took {last} minutes.", flush=True)
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
    minutes_file.write_text(f"{wall:.1f}")
    print(f"\n{wall:.1f} minutes, {cpu:.1f} minutes of CPU; failed: {', '.join(failed) or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
