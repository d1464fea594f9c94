"""Resolve pyproject.toml into exact versions with hashes, for every platform that is served.

Run through `make lock`. uv resolves from package metadata alone, so this takes seconds. Pins that
are in the files stay; `make lock UPGRADE=1` takes the newest. Five files come out:

- requirements.lock: everything that a run needs, but torch. Two OpenCV builds that others ask for
  are left out in favour of opencv-python-headless (pyproject.toml, `[tool.uv]`); pip cannot leave
  out a package, so `pip --no-deps`.
- requirements-dev.lock: what tests, linters and the docs site add to it.
- requirements-torch.lock: torch, and the libraries of its CUDA build (3 GB), which a CPU build does
  without. envs/install_torch.py installs it.
- requirements-torch-cuda12.lock: the same for old GPUs and old drivers: the newest torch whose
  wheels on PyPI hold kernels for sm_60 and sm_70 (P100, V100).
- requirements-hf.lock: what transformers adds to the first, for encoders of Hugging Face.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = re.compile(r"^(torch|torchvision|triton|nvidia-.*|cuda-.*)$")
# Torch 2.7.1 has kernels for sm_50 to sm_90 (docs/platforms.md); 2.8.0 is the first without sm_60.
OLD_GPUS = ("torch==2.7.1", "torchvision==0.22.1")
MAIN, DEV, NEW, OLD, HF = (
    f"requirements{kind}.lock" for kind in ("", "-dev", "-torch", "-torch-cuda12", "-hf")
)

TITLES = {
    MAIN: "Every package that a run needs but torch: exact versions, for every platform.",
    DEV: "What tests, linters and the docs site add to requirements.lock.",
    NEW: "torch, torchvision, and the libraries that a CUDA build of them loads.",
    OLD: "torch for GPUs before sm_75 (P100, V100) and drivers before 580.",
    HF: "What transformers adds to requirements.lock, for encoders of Hugging Face.",
}


def read(name: str) -> dict[str, str]:
    """Read the entries of a lock file by name; a file that does not exist has none."""
    path = ROOT / name
    return _entries(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _entries(text: str) -> dict[str, str]:
    """Split the text of a lock file into entries by name: each has a pin, a marker and hashes."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    blocks = re.split(r"\n(?=\S)", "\n".join(lines))
    return {re.split(r"[=\[ ]", block, maxsplit=1)[0]: block for block in blocks if block}


def _pins(entries: dict[str, str]) -> list[str]:
    """List the pins with their markers, such as `colorama==0.4.6 ; sys_platform == 'win32'`."""
    return [block.partition("\n")[0].rstrip(" \\") for block in entries.values()]


def resolve(constraints: list[str], *extras: str) -> dict[str, str]:
    """Resolve pyproject.toml with these extras into entries by name, for every platform."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as held:
        held.write("\n".join(constraints))
        held.flush()
        command = [
            "uv", "pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11",
            "--generate-hashes", "--no-annotate", "--no-header", "--quiet",
            "--constraint", held.name, *(f"--extra={extra}" for extra in extras),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return _entries(done.stdout)


def _added(entries: dict[str, str], others: dict[str, str]) -> dict[str, str]:
    """Select entries that `others` lacks or has for fewer platforms (colorama, regex); no torch."""
    return {
        name: block
        for name, block in entries.items()
        if not TORCH.match(name) and _pins({name: block}) != _pins({name: others.get(name, "")})
    }


def write(name: str, title: str, entries: dict[str, str]) -> None:
    """Write a lock file, with a comment on its contents and how to renew it."""
    text = f"# {title}\n# Renewed by `make lock`; installed with --require-hashes and --no-deps.\n"
    (ROOT / name).write_text(text + "\n".join(entries.values()) + "\n", encoding="utf-8")
    print(f"{name}: {len(entries)} packages")


def mark_environment() -> None:
    """Put the lock's digest into the conda script, so that a new lock means a new environment."""
    script = ROOT / "envs" / "epic100.post-deploy.sh"
    content = b"".join((ROOT / name).read_bytes() for name in (MAIN, NEW))
    digest = hashlib.sha256(content).hexdigest()
    text = re.sub(r"# lock sha256: \w+", f"# lock sha256: {digest}", script.read_text())
    script.write_text(text, encoding="utf-8")


def main(upgrade: bool) -> None:
    """Renew the five files."""
    every = resolve(
        [] if upgrade else _pins(read(MAIN) | read(DEV) | read(NEW)), "build", "dev", "docs"
    )
    run = resolve(_pins(every), "build")
    parts = {
        MAIN: {name: run[name] for name in run if not TORCH.match(name)},
        DEV: _added(every, run),
        NEW: {name: run[name] for name in run if TORCH.match(name)},
    }
    old = resolve([*_pins(parts[MAIN]), *OLD_GPUS], "build")
    parts[OLD] = {name: old[name] for name in old if TORCH.match(name)}
    kept = [] if upgrade else _pins(read(HF))
    parts[HF] = _added(resolve([*_pins(every), *kept], "build", "hf"), run)
    for name, entries in parts.items():
        write(name, TITLES[name], entries)
    mark_environment()


if __name__ == "__main__":
    main(upgrade="--upgrade" in sys.argv[1:])
