"""Links, pipes and code that other users put into folders and nodes that they share with a run."""

import os
import stat
from pathlib import Path

import pytest

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.cli.workflow import snakemake_command
from epic100.slurm.site import read_partitions
from support.checkout import ROOT, epic100, said

pytestmark = pytest.mark.slow

# No user has this number.
ANOTHER_USER = 54321
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root makes files of another user")


@pytest.fixture
def victim(tmp_path):
    """A file elsewhere that must keep its text."""
    path = tmp_path / "home/thesis.txt"
    path.parent.mkdir()
    path.write_text("years of work")
    yield path
    assert path.read_text() == "years of work"


def test_a_link_under_the_name_of_an_output_does_not_lead_it_away(tmp_path, victim):
    table = tmp_path / "table.tsv"
    table.symlink_to(victim)
    with atomic_path(table) as temporary:
        temporary.write_text("output")
    assert not table.is_symlink() and table.read_text() == "output"


def test_a_new_file_is_as_open_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    os.umask(before)
    # 0o666 without the bits of 0o027.
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def uses_the_profile_here() -> bool:
    """Whether `epic100 run` in this folder takes the profile that is here."""
    return "profiles/default" in snakemake_command(["--configfile", "config/mine.yaml"])


PARTITIONS = "profiles/partitions.yaml"


@as_root
@pytest.mark.parametrize(
    "path, use",
    [
        ("profiles", uses_the_profile_here),
        ("profiles/default", uses_the_profile_here),
        ("config", uses_the_profile_here),
        ("config/mine.yaml", uses_the_profile_here),
        (PARTITIONS, lambda: read_partitions(PARTITIONS)),
        (PARTITIONS, lambda: read_partitions(os.path.abspath(PARTITIONS))),
    ],
)
def test_a_profile_or_config_that_another_user_made_here_is_rejected(
    tmp_path, monkeypatch, path, use
):
    monkeypatch.chdir(tmp_path)
    files = {
        "profiles/default/config.yaml": "cores: 1\n",
        "config/mine.yaml": "cores: 1\n",
        PARTITIONS: (ROOT / PARTITIONS).read_text(),
    }
    for file, text in files.items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text)
    assert use()
    os.chown(path, ANOTHER_USER, ANOTHER_USER)
    with pytest.raises(EpicError, match=f"{path}: user {ANOTHER_USER} can write it, and what is"):
        use()


def test_epic100_run_reads_no_folder_default_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("default").mkdir()
    command = snakemake_command(["-n"])
    assert command[command.index("--workflow-profile") + 1] == str(ROOT / "profiles/default")


@as_root
@pytest.mark.parametrize("command", [("run", "-n"), ("check",)])
def test_a_base_config_that_another_user_made_here_is_not_used(tmp_path, command):
    config = tmp_path / "config/config.yaml"
    config.parent.mkdir()
    config.write_text("run: theirs\n")
    os.chown(config, ANOTHER_USER, ANOTHER_USER)
    screen = said(epic100(*command, cwd=tmp_path, well=False))
    assert f"config/config.yaml: user {ANOTHER_USER} can write it" in screen
