"""Install the torch and torchvision that a lock file pins into this Python: install_torch.py LOCK.

They are the two packages of which pip may find another build than PyPI's: a CPU build in a folder
of wheels or on PyTorch's own index, named by the reader's pip settings. Its version has a local
label (`2.13.0+cpu`), which PyPI does not accept, so it cannot come from there. So:

- a plain version is PyPI's and must have a hash of LOCK;
- a version with a local label is the reader's own choice; its hash is printed, not checked.

The libraries that LOCK names beside them are installed, by hash, where this is a CUDA build.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

BUILDS = ("torch", "torchvision")


def main(lock: Path) -> None:
    """Download torch and torchvision, check their hashes, and install them with their libraries."""
    entries = re.split(r"\n(?=\S)", lock.read_text(encoding="utf-8").rstrip())
    entries = [entry for entry in entries if not entry.startswith("#")]
    own = {name: next(e for e in entries if e.startswith(f"{name}==")) for name in BUILDS}
    known = set(re.findall(r"sha256:(\w+)", "\n".join(own.values())))
    with tempfile.TemporaryDirectory() as folder:
        pins = [re.split(r"[\s;]", entry, maxsplit=1)[0] for entry in own.values()]
        _pip("download", "--no-deps", "--dest", folder, *pins)
        wheels = sorted(Path(folder).iterdir())
        for wheel in wheels:
            _check(wheel, known, lock)
        _pip("install", "--no-deps", *map(str, wheels))
        if any(_loads_cuda(wheel) for wheel in wheels):
            rest = Path(folder) / "libraries.txt"
            rest.write_text("\n".join(e for e in entries if e not in own.values()) + "\n")
            _pip("install", "--no-deps", "--require-hashes", "--requirement", str(rest))


def _check(wheel: Path, known: set[str], lock: Path) -> None:
    """End the program if a wheel of PyPI has no hash of the lock."""
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest in known:
        return
    if "+" not in wheel.name.split("-")[1]:
        sys.exit(f"error: {wheel.name}: sha256 {digest} is not in {lock}; nothing was installed")
    print(f"{wheel.name}: from a folder or index of your own, not checked (sha256 {digest})")


def _loads_cuda(wheel: Path) -> bool:
    """Whether a wheel is torch's and a CUDA build."""
    if not wheel.name.startswith("torch-"):
        return False
    version = zipfile.ZipFile(wheel).read("torch/version.py").decode()
    return re.search(r"^cuda\b[^=\n]*= *'", version, re.MULTILINE) is not None


def _pip(*arguments: str) -> None:
    """Run pip, and end the program if it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    if done := subprocess.run(command).returncode:
        sys.exit(done)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
