"""Make environments with some of the installed packages, or with this checkout's wheel, offline."""

import os
import shutil
import sys
import sysconfig
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from support.checkout import call, python


def bare_environment(folder: Path, *names: str) -> Path:
    """Make an environment of these packages and all that they require; return its `bin` folder."""
    venv.create(folder, with_pip=False, symlinks=True)
    programs = folder / "bin"
    site = site_packages(programs / "python")
    for package in _closure(names):
        for top in {file.parts[0] for file in package.files or () if file.parts[0] != ".."}:
            link = site / top
            if not os.path.lexists(link) and top != "__pycache__":
                link.symlink_to(package.locate_file(top))
    for name in names:
        for entry in distribution(name).entry_points.select(group="console_scripts"):
            _write_program(programs, entry.name, entry.module, entry.attr)
    return programs


def site_packages(python: Path) -> Path:
    """Find the folder in which an interpreter looks for packages."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(call(python, "-c", code).stdout.strip())


def _closure(names: tuple[str, ...]) -> list[Distribution]:
    """List these packages and all that they require, directly or not."""
    packages: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in packages:
            continue
        packages[name] = distribution(name)
        required = [Requirement(text) for text in packages[name].requires or ()]
        waiting += [r.name for r in required if not r.marker or r.marker.evaluate({"extra": ""})]
    return list(packages.values())


def _write_program(folder: Path, name: str, module: str, function: str) -> None:
    """Write a shell script that calls a function with the Python of this folder."""
    path = folder / name
    call = f"import sys; from {module} import {function}; sys.exit({function}())"
    path.write_text(f'#!/bin/sh\nexec "{folder}/python" -c "{call}" "$@"\n')
    path.chmod(0o755)


def without_the_clone() -> dict[str, str]:
    """The environment variables of a user who has no checkout and no environment of ours."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "EPIC100_ROOT")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    outside = [f for f in kept["PATH"].split(os.pathsep) if Path(sys.executable).parent != Path(f)]
    return kept | {"PATH": os.pathsep.join(outside)}


def build_wheel(folder: Path) -> Path:
    """Build the wheel from the present files of this checkout."""
    python("-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_wheel(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a new environment with the locked packages; return its `bin` folder.

    The locked packages stay where they are. `epic100` comes from the wheel, not from this checkout.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    own = folder / "bin/python"
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    assert uv, "uv is not installed"
    call(uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", own, wheel)
    shared = site_packages(own) / "locked.pth"
    shared.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin"
