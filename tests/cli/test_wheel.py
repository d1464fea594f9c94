"""A wheel in an environment of its own is the whole workflow, with no clone in sight."""

import zipfile
from pathlib import Path

import pytest

from support.archive import jobs
from support.checkout import ROOT, call, said
from support.environments import build_wheel, install_wheel, without_the_clone

pytestmark = [pytest.mark.slow, pytest.mark.weekly]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Path:
    return install_wheel(wheel, tmp_path_factory.mktemp("elsewhere") / "venv")


def epic100(programs: Path, folder: Path, *arguments: str, well: bool = True):
    environment = without_the_clone() | {"EPIC100_ACCOUNT": "lp_lab"}
    return call(programs / "epic100", *arguments, cwd=folder, env=environment, well=well)


def test_it_carries_every_file_of_the_workflow(wheel):
    with zipfile.ZipFile(wheel) as archive:
        carried = set(archive.namelist())
    for name in call("git", "ls-files").stdout.split():
        folder, _, rest = name.partition("/")
        if rest.startswith(("epic100/", "snakemake_")):
            assert rest in carried, name
        elif folder in ("Snakefile", "config", "profiles", "rules", "envs", "workflow"):
            assert f"epic100/shipped/{name}" in carried, name


def test_the_demo_is_planned_in_an_empty_folder(programs, tmp_path):
    planned = jobs(epic100(programs, tmp_path, "demo", "-n", "--verbose"))
    assert planned["train"] == planned["export"] / 2 == planned["report"] == 1


def test_a_target_is_made_in_an_empty_folder(programs, tmp_path):
    epic100(programs, tmp_path, "demo", "--cores", "1", "results/segments/val.txt")
    lines = (tmp_path / "demo/results/segments/val.txt").read_text().splitlines()
    assert len(lines) > 10 and len(lines[0].split()) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_the_profile_that_ships_is_found_by_its_name(programs, tmp_path):
    done = epic100(
        programs,
        tmp_path,
        "run",
        "all",
        "-n",
        "--profile=profiles/vsc",
        "--verbose",
        "--configfile",
        "config/demo.yaml",
    )
    assert jobs(done)["scan"] > 3


def test_an_own_config_goes_before_the_one_that_ships(programs, tmp_path):
    (tmp_path / "config").mkdir()
    text = (ROOT / "config/demo.yaml").read_text().replace("seed: 0", "sead: 0", 1)
    (tmp_path / "config/demo.yaml").write_text(text)
    done = epic100(programs, tmp_path, "run", "-n", "--configfile", "config/demo.yaml", well=False)
    assert "unknown key 'minikitchen.sead'; did you mean minikitchen.seed?" in said(done)
