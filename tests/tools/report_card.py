"""Run the tests under coverage, and print coverage by part of the library and tangled functions.

`make report-card` runs this and writes the tables to build/report-card.txt. Processes that tests
start count too, unless they are killed or get an environment of their own. The seconds of the
slowest tests are those with coverage, which slows Python down.

    .venv/bin/python tests/tools/report_card.py            # all but tests/slurm
    .venv/bin/python tests/tools/report_card.py --slurm
    .venv/bin/python tests/tools/report_card.py tests/scoring tests/base
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

from coverage import Coverage

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "workflow/epic100"
REPORT = ROOT / "build/report-card.txt"
FOLDER = ROOT / "build/report-card"
RC = FOLDER / "coveragerc"
SETTINGS = """[run]
branch = true
source_pkgs = epic100
patch = subprocess, fork, _exit, execv
data_file = {folder}/coverage
"""
# The JSON report of coverage.py has these numbers of each file.
COUNTS = ("num_statements", "covered_lines", "num_branches", "covered_branches")
COVERAGE = (sys.executable, "-m", "coverage", "run", "--rcfile", str(RC))
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations", "20")
# Ruff's rule C901 counts the paths through a function, and reports functions with more than these.
MOST_PATHS = 10
RUFF = (sys.executable, "-m", "ruff", "check", "--quiet", "--output-format", "concise")
RUFF += ("--select", "C901", "--config", f"lint.mccabe.max-complexity={MOST_PATHS}")


def coverage_table() -> list[str]:
    """Make a table of the lines and branches that ran, by part of the library."""
    measured = Coverage(config_file=str(RC))
    # Each process wrote a file. That of a process that was killed meanwhile is left out.
    measured.combine([str(FOLDER)])
    figures = FOLDER / "figures.json"
    # Rules do not count, nor do copies that a test has made and removed.
    measured.json_report(outfile=str(figures), include=[f"{ROOT}/{PACKAGE}/*"])
    parts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, file in json.loads(figures.read_text())["files"].items():
        for part in (Path(name).relative_to(PACKAGE).parts[0], "in all"):
            parts[part].update({key: file["summary"][key] for key in COUNTS})
    lines = [f"{'part':14}{'lines':>8}{'covered':>9}{'branches':>10}{'covered':>9}"]
    for part in sorted(parts, key=lambda part: (part == "in all", part)):
        statements, statements_run, branches, branches_run = (parts[part][key] for key in COUNTS)
        line_share = f"{100 * statements_run / max(statements, 1):.1f} %"
        branch_share = f"{100 * branches_run / max(branches, 1):.1f} %"
        lines.append(f"{part:14}{statements:8,}{line_share:>9}{branches:10,}{branch_share:>9}")
    return lines


def main() -> int:
    """Run the tests, write the report, and return 1 if a test failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tests", nargs="*", default=["tests"])
    parser.add_argument("--slurm", action="store_true", help="tests/slurm too, which mostly waits")
    parser.add_argument("--jobs", default="2", help="processes of tests side by side")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    RC.write_text(SETTINGS.format(folder=FOLDER))
    side_by_side = ("-n", options.jobs, "--no-loadscope-reorder", "--ignore=tests/slurm")
    commands = [(*COVERAGE, *PYTEST, *side_by_side, *options.tests)]
    if options.slurm:
        commands.append((*COVERAGE, *PYTEST, "tests/slurm"))
    failed = [subprocess.run(command, cwd=ROOT).returncode for command in commands]
    tangled = subprocess.run([*RUFF, "."], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    title = f"\nFunctions with more than {MOST_PATHS} paths through them (ruff C901):"
    text = "\n".join([*coverage_table(), title, tangled])
    REPORT.write_text(text)
    print(text)
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main())
