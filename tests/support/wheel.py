"""The wheel of this checkout, installed where there is no clone."""

import shutil
import sys
import sysconfig
import venv
from pathlib import Path

from support.bare_environment import site_packages
from support.checkout import call, python


def build_wheel(folder: Path) -> Path:
    """Build the wheel, from what this checkout has now."""
    python("-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_wheel(wheel: Path, folder: Path) -> Path:
    """Install it into a new environment that has the locked packages too; the `bin` folder.

    They are read where they are; `epic100` is the wheel's, not this checkout's, which another
    environment has on its path.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    own = folder / "bin/python"
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    assert uv, "uv is not installed"
    call(uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", own, wheel)
    shared = site_packages(own) / "locked.pth"
    shared.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin"
