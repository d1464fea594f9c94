"""Resolve pyproject.toml into exact versions: requirements.lock and requirements-cuda.lock.

Run through `make lock`. uv resolves from package metadata alone, so this takes seconds. Two
things that no single pip call does:
- MMAction2 and mmcv-lite ask for two OpenCV builds that overwrite each other and need
  libGL.so.1; both are left out in favour of opencv-python-headless (hence `pip --no-deps`).
- PyPI's Linux torch is a CUDA build whose libraries are packages of their own (3 GB). They go to
  a second file, which the Makefile installs only where that build of torch was installed.
"""

import hashlib
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEVER = 'python_version < "3"'
LEFT_OUT = ("opencv-python", "opencv-contrib-python")
CUDA_ONLY = re.compile(r"^(nvidia-|cuda-|triton)")
PYTHON = "3.11"


def resolve() -> list[str]:
    """The `name==version` lines of the whole tree."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as overrides:
        overrides.write("".join(f"{name} ; {NEVER}\n" for name in LEFT_OUT))
        overrides.flush()
        command = ["uv", "pip", "compile", "pyproject.toml", "--extra", "dev", "--no-header"]
        command += ["--override", overrides.name, "--python-version", PYTHON, "--no-annotate"]
        command += ["--quiet", "--upgrade"]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if "==" in line]


def write(name: str, title: str, lines: list[str]) -> None:
    """Write one lock file under a comment that says how it is renewed."""
    text = f"# {title}\n# Renewed by `make lock`; install with `pip install --no-deps -r {name}`.\n"
    (ROOT / name).write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}: {len(lines)} packages")


def mark_environment() -> None:
    """Put the lock's digest into the conda script, so that a new lock means a new environment."""
    script = ROOT / "envs" / "epic100.post-deploy.sh"
    digest = hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()
    text = re.sub(r"# lock sha256: \w+", f"# lock sha256: {digest}", script.read_text())
    script.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    pins = resolve()
    write(
        "requirements.lock",
        "Every package of the workflow, exact versions, for CPU and CUDA machines alike.",
        [pin for pin in pins if not CUDA_ONLY.match(pin)],
    )
    write(
        "requirements-cuda.lock",
        "The libraries that a CUDA build of torch loads; the CPU build needs none of them.",
        [pin for pin in pins if CUDA_ONLY.match(pin)],
    )
    mark_environment()
