"""Run the tests that start Snakemake on the lowest version that pyproject.toml allows, or another.

    make test-snakemake
    make test-snakemake SNAKEMAKE=9.25.2

All other tests run on the newest version, which is that of the lock. Other arguments go to pytest.
"""

import argparse
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
TESTS = [
    *("base/test_lock.py", "behaviour/test_stops.py", "video/test_proxy_dag.py", "screen"),
    *(f"workflow/test_{name}.py" for name in ("refusals", "rerun", "runs", "workflow")),
]


def lowest_snakemake() -> str:
    """Read the lowest version of Snakemake that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = {each.name: each for each in map(Requirement, project["dependencies"])}
    (lowest,) = (each for each in requirements["snakemake"].specifier if each.operator == ">=")
    return lowest.version


def make_environment(folder: Path, version: str) -> Path:
    """Install a version of Snakemake into a new environment, and return its Python.

    The environment reads all other packages from the one in use. So pip, which also comes from
    there, installs only Snakemake, and what the lock has in a version that this Snakemake refuses.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    # Python reads these folders after the environment's own.
    others = f"{ROOT}/workflow\n{sysconfig.get_path('purelib')}\n"
    (packages / "others.pth").write_text(others, encoding="utf-8")
    python = folder / "bin/python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, f"snakemake=={version}"], check=True)
    return python


def main(arguments: list[str]) -> int:
    """Run the tests on the version that the arguments name; the exit code is that of pytest."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--snakemake", metavar="VERSION", default=lowest_snakemake())
    options, words = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory(prefix="epic100-snakemake-") as folder:
        python = make_environment(Path(folder), options.snakemake)
        print(f"Tests on Snakemake {options.snakemake}:", flush=True)
        files = [ROOT / "tests" / name for name in TESTS]
        return subprocess.run([python, "-m", "pytest", *words, *files], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
