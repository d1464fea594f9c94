"""Coverage, complexity and the slowest tests, as a table in build/report-card.txt.

`make report-card` runs this. Processes that tests start count too, unless they are killed or get an
environment of their own. Seconds are those with coverage, which slows Python down.

    .venv/bin/python tests/tools/report_card.py            # all but tests/slurm
    .venv/bin/python tests/tools/report_card.py --slurm
    .venv/bin/python tests/tools/report_card.py tests/scoring tests/base
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from xml.etree import ElementTree

from coverage import Coverage

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "workflow/epic100"
REPORT = ROOT / "build/report-card.txt"
FOLDER = ROOT / "build/report-card"
RC, FIGURES = FOLDER / "coveragerc", FOLDER / "figures.json"
SETTINGS = """[run]
branch = true
source_pkgs = epic100
patch = subprocess, fork, _exit, execv
data_file = {folder}/coverage
"""
COUNTS = ("num_statements", "covered_lines", "num_branches", "covered_branches")
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
LIMIT, SLOWEST = 10, 20


def output(*words: object) -> str:
    """What a program of this environment writes; ruff ends with 1 if it found something."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE
    )
    return done.stdout.decode()


def run_tests(*words: str) -> list[ElementTree.Element]:
    """Run tests under coverage; the results, one a test."""
    results = FOLDER / f"{words[-1].replace(os.sep, '-')}.xml"
    measured = ("-m", "coverage", "run", "--rcfile", str(RC))
    subprocess.run([sys.executable, *measured, *PYTEST, f"--junit-xml={results}", *words], cwd=ROOT)
    return list(ElementTree.parse(results).iter("testcase"))


def coverage() -> list[str]:
    """Lines and branches that ran, by part of the library."""
    measured = Coverage(config_file=str(RC))
    # Each file is of one process. One that was killed as it wrote is left out, with a warning.
    measured.combine([str(FOLDER)])
    # Rules do not count, nor do copies that a test has made and removed.
    measured.json_report(outfile=str(FIGURES), include=[f"{ROOT}/{PACKAGE}/*"])
    parts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, file in json.loads(FIGURES.read_text())["files"].items():
        for part in (Path(name).relative_to(PACKAGE).parts[0], "in all"):
            parts[part].update({key: file["summary"][key] for key in COUNTS})
    lines = [f"{'part':14}{'lines':>8}{'covered':>9}{'branches':>10}{'covered':>9}"]
    for part in sorted(parts, key=lambda part: (part == "in all", part)):
        all_lines, lines_run, all_ways, ways_run = (parts[part][key] for key in COUNTS)
        pairs = ((lines_run, all_lines), (ways_run, all_ways))
        shares = [f"{100 * run / every:.1f} %" if every else "-" for run, every in pairs]
        lines.append(f"{part:14}{all_lines:8,}{shares[0]:>9}{all_ways:10,}{shares[1]:>9}")
    return lines


def complexity() -> list[str]:
    """Functions with more ways through them than LIMIT."""
    rule = ("--select", "C901", "--config", f"lint.mccabe.max-complexity={LIMIT}")
    return output("ruff", "check", "-q", *rule, "--output-format", "concise", ".").splitlines()


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("tests", nargs="*", default=["tests"])
    words.add_argument("--slurm", action="store_true", help="tests/slurm too, which mostly waits")
    words.add_argument("--jobs", default="2", help="processes of tests side by side")
    asked = words.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    RC.write_text(SETTINGS.format(folder=FOLDER))
    side_by_side = ("-n", asked.jobs, "--no-loadscope-reorder", "--ignore=tests/slurm")
    tests = run_tests(*side_by_side, *asked.tests)
    tests += run_tests("tests/slurm") if asked.slurm else []
    covered = coverage()
    bad = [test for test in tests if {"failure", "error"} & {part.tag for part in test}]
    tests.sort(key=lambda test: -float(test.get("time", 0)))
    rows = [
        f"{float(t.get('time', 0)):7.1f} s  {t.get('classname')}::{t.get('name')}" for t in tests
    ]
    tangled = ["", f"Functions with a complexity above {LIMIT} (ruff C901):", *complexity(), ""]
    slowest = f"The slowest of {len(tests):,} tests, {len(bad)} of which failed:"
    text = "\n".join([*covered, *tangled, slowest, *rows[:SLOWEST]])
    REPORT.write_text(text + "\n")
    print(text)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
