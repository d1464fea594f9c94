"""Make environments from installed packages or this checkout's wheel, without a download."""

import os
import shutil
import sys
import sysconfig
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.checkout import call, python


def bare_environment(folder: Path, *names: str) -> Path:
    """Make an environment of the programs `names` and their requirements; return its `bin`.

    Packages are links to the packages of the environment in use.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    packages: dict[str, Distribution] = {}
    for name in names:
        _add_requirements(name, packages)
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m {name} "$@"\n')
        program.chmod(0o755)
    for package in packages.values():
        for top in {file.parts[0] for file in package.files or () if file.parts[0] != ".."}:
            link = _site_packages(folder) / top
            # Packages of one namespace have a folder in common, which is linked once.
            if not os.path.lexists(link) and top != "__pycache__":
                link.symlink_to(package.locate_file(top))
    return folder / "bin"


def _site_packages(folder: Path) -> Path:
    """Return the folder of packages of an environment."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))


def _add_requirements(name: str, packages: dict[str, Distribution]) -> None:
    """Add a package and all that it requires to `packages`, by name."""
    name = canonicalize_name(name)
    if name not in packages:
        packages[name] = distribution(name)
        for text in packages[name].requires or ():
            requirement = Requirement(text)
            # Without an extra, requirements of extras are left out.
            if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
                _add_requirements(requirement.name, packages)


def without_the_clone() -> dict[str, str]:
    """Return the environment variables without those that name this checkout or environment."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "EPIC100_ROOT")
    others = {name: value for name, value in os.environ.items() if name not in ours}
    programs = Path(sys.executable).parent
    path = [folder for folder in others["PATH"].split(os.pathsep) if Path(folder) != programs]
    return others | {"PATH": os.pathsep.join(path)}


def build_wheel(folder: Path) -> Path:
    """Build the wheel from the files of this checkout."""
    python("-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_wheel(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a new environment; return its `bin` folder.

    The environment reads all other packages from the one in use. It does not read this checkout,
    which the one in use reads by a `.pth` file, since such files work only in an environment's own
    folder.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    assert uv, "uv is not installed"
    call(uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", folder, wheel)
    path_file = _site_packages(folder) / "locked.pth"
    path_file.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin"
