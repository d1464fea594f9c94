"""The wheel of this checkout, installed where there is no clone."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from support.bare_environment import site_packages
from support.checkout import ROOT


def build_wheel(folder: Path) -> Path:
    """Build the wheel, from what this checkout has now."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_wheel(wheel: Path, folder: Path) -> Path:
    """Install it into a new environment that has the locked packages too; the `bin` folder.

    They are read where they are; `epic100` is the wheel's, not this checkout's, which another
    environment has on its path.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    assert uv, "uv is not installed"
    command = [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel]
    subprocess.run(command, check=True)
    shared = site_packages(python) / "locked.pth"
    shared.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin"
