"""Run the tests that start Snakemake on the lowest versions that pyproject.toml allows.

    make test-lowest
    make test-lowest SNAKEMAKE=9.25.2

The second call takes this version of Snakemake, and the rest from the lock, as all other tests do.
Other arguments go to pytest.
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
    *("base/test_lock.py", "behaviour/test_stops.py", "data/test_fetch.py"),
    *("video/test_proxy_dag.py", "screen", "settings"),
    *(f"workflow/test_{name}.py" for name in ("refusals", "rerun", "runs", "workflow")),
]
# An old build of PyTorch takes gigabytes, so the tests do not install it.
LARGE = {"torch", "torchvision"}


def lowest_versions() -> list[str]:
    """List the lowest versions that pyproject.toml allows, such as `snakemake==9.23`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [
        f"{requirement.name}=={bound.version}"
        for requirement in map(Requirement, project["dependencies"])
        for bound in requirement.specifier
        if bound.operator == ">=" and requirement.name not in LARGE
    ]


def make_environment(folder: Path, pins: list[str]) -> Path:
    """Install pinned packages into a new environment, and return its Python.

    The environment reads all other packages from the one in use. So pip, which also comes from
    there, installs only these, and what the lock has in a version that one of them refuses.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    # Python reads these folders after the environment's own.
    others = f"{ROOT}/workflow\n{sysconfig.get_path('purelib')}\n"
    (packages / "others.pth").write_text(others, encoding="utf-8")
    python = folder / "bin/python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, *pins], check=True)
    return python


def main(arguments: list[str]) -> int:
    """Run the tests on the version that the arguments name; the exit code is that of pytest."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--snakemake", metavar="VERSION")
    options, words = parser.parse_known_args(arguments)
    pins = [f"snakemake=={options.snakemake}"] if options.snakemake else lowest_versions()
    with tempfile.TemporaryDirectory(prefix="epic100-snakemake-") as folder:
        python = make_environment(Path(folder), pins)
        print(f"Tests on {', '.join(pins)}:", flush=True)
        files = [ROOT / "tests" / name for name in TESTS]
        return subprocess.run([python, "-m", "pytest", *words, *files], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
