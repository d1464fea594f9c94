"""A wheel in an environment of its own is the whole workflow, without a clone."""

import shutil
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from support.archive import jobs
from support.checkout import ROOT, call, python, said, without_the_clone

pytestmark = [pytest.mark.slow, pytest.mark.weekly]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Path:
    """The folder of the programs of an environment in which the wheel is installed.

    It reads all other packages from the environment in use. It does not read this checkout, which
    the one in use reads by a `.pth` file, as such files work only in an environment's own folder.
    """
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    assert uv, "uv is not installed"
    call(uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", folder, wheel)
    site_packages = sysconfig.get_path("purelib", "venv", {"base": str(folder)})
    Path(site_packages, "locked.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def epic100(programs: Path, folder: Path, *arguments: str, well: bool = True):
    """Call the installed `epic100` in a folder; `well` says whether it must succeed."""
    environment = without_the_clone() | {"EPIC100_ACCOUNT": "lp_lab"}
    return call(programs / "epic100", *arguments, cwd=folder, env=environment, well=well)


def test_the_wheel_has_every_file_of_the_workflow(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for name in call("git", "ls-files").stdout.split():
        folder, _, rest = name.partition("/")
        if rest.startswith(("epic100/", "snakemake_")):
            assert rest in names, name
        elif folder in ("Snakefile", "config", "profiles", "rules", "envs", "workflow"):
            assert f"epic100/shipped/{name}" in names, name


def test_the_demo_is_made_in_empty_folders(programs, tmp_path):
    planned = jobs(epic100(programs, tmp_path, "demo", "-n", "--verbose"))
    # There are two submissions, of val and of test.
    assert planned["train"] == planned["export"] / 2 == planned["report"] == 1
    epic100(programs, tmp_path, "demo", "--cores", "1", "results/segments/val.txt")
    lines = (tmp_path / "demo/results/segments/val.txt").read_text().splitlines()
    assert len(lines) > 10 and len(lines[0].split()) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_shipped_files_have_the_names_of_a_clone(programs, tmp_path):
    words = "run all -n --profile=profiles/vsc --verbose --configfile config/demo.yaml"
    assert jobs(epic100(programs, tmp_path, *words.split()))["scan"] > 3
    # A config of the folder replaces the shipped one.
    (tmp_path / "config").mkdir()
    text = (ROOT / "config/demo.yaml").read_text().replace("seed: 0", "sead: 0", 1)
    (tmp_path / "config/demo.yaml").write_text(text)
    done = epic100(programs, tmp_path, *words.split(), well=False)
    assert "unknown key 'minikitchen.sead'; did you mean minikitchen.seed?" in said(done)
