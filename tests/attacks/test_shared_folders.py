"""Links, pipes and code that other users put into folders and nodes that they share with a run."""

import os
import re
import stat
from pathlib import Path

import pytest

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.base.folders import keep_private, warn_of_other_writers
from epic100.base.log import rule_log
from epic100.base.ranks import private_folder
from epic100.cli.workflow import snakemake_command
from epic100.figures.style import drawing
from epic100.slurm.site import read_partitions
from support.archive import make_archive, run
from support.checkout import ROOT, epic100, python, said

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


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to])
def test_a_link_in_the_place_of_a_rule_s_log_is_not_written_through(
    tmp_path, victim, plant, capsys
):
    plant(tmp_path / "scan.log", victim)
    with rule_log(tmp_path / "scan.log"):
        print("all is well")
    assert "all is well" in capsys.readouterr().err


@as_root
@pytest.mark.parametrize("output", ["results", "results/scan", "results/logs/scan"])
def test_a_run_removes_nothing_behind_another_user_s_link(tmp_path, output):
    lab = make_archive(tmp_path / "lab")
    home = tmp_path / "home"
    # Snakemake would remove these before the scan, as the rule's outputs and log.
    names = ["P01.tsv", "P01.index.npz", "P01.log", "scan/P01.tsv", "scan/P01.index.npz"]
    (home / "scan").mkdir(parents=True)
    for name in names:
        (home / name).write_text("years of work")
    link = lab / output
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(home)
    os.lchown(link, ANOTHER_USER, ANOTHER_USER)
    done = run(lab, "results/scan/P01.tsv", "--forcerun", "scan", well=False)
    assert f"{output}: a link or a pipe; expected a plain file; see who put it there" in said(done)
    assert {(home / name).read_text() for name in names} == {"years of work"}


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
def test_a_profile_or_config_that_another_user_made_here_is_refused(
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
    assert command[command.index("--workflow-profile") + 1] == "none"


@as_root
@pytest.mark.parametrize(
    "user, group, mode, warning",
    [
        pytest.param(0, 0, 0o755, "^$", id="nobody else"),
        pytest.param(0, 0, 0o777, "every user can write to this folder", id="everybody"),
        pytest.param(
            0,
            ANOTHER_USER,
            0o775,
            f"group {ANOTHER_USER} can write to this folder",
            id="another group",
        ),
        pytest.param(
            ANOTHER_USER,
            0,
            0o755,
            f"user {ANOTHER_USER} can write to this folder",
            id="another user",
        ),
    ],
)
def test_a_working_folder_that_others_can_write_gives_a_warning(
    tmp_path, user, group, mode, warning
):
    os.chown(tmp_path, user, group)
    tmp_path.chmod(mode)
    assert re.search(warning, warn_of_other_writers(tmp_path))


def make_foreign_folder(path):
    path.mkdir()
    os.chown(path, ANOTHER_USER, ANOTHER_USER)


@as_root
def test_files_of_snakemake_that_another_user_made_stop_the_run(tmp_path):
    make_foreign_folder(tmp_path / ".snakemake")
    with pytest.raises(EpicError, match=rf"\.snakemake: user {ANOTHER_USER} can write it"):
        warn_of_other_writers(tmp_path)


@as_root
@pytest.mark.parametrize(
    "plant, is_usual",
    [
        pytest.param(lambda path: None, True, id="nothing"),
        pytest.param(Path.touch, False, id="a file"),
        pytest.param(make_foreign_folder, False, id="a folder"),
        pytest.param(lambda path: path.symlink_to("."), False, id="a link"),
    ],
)
def test_caches_of_libraries_are_where_no_other_user_can_write(
    tmp_path, monkeypatch, plant, is_usual
):
    usual_folder = tmp_path / f"epic100-{os.getuid()}"
    plant(usual_folder)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # `monkeypatch` puts back all variables after the test.
    monkeypatch.setattr(os, "environ", {})
    keep_private()
    for name in ("TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR"):
        folder = Path(os.environ[name]).parent
        assert (stat.S_IMODE(folder.stat().st_mode), folder.owner()) == (0o700, "root")
        assert (folder == usual_folder) is is_usual


def test_a_matplotlibrc_of_the_working_folder_changes_no_figure_and_runs_nothing(tmp_path):
    (tmp_path / "matplotlibrc").write_text("backend: module://planted\nfont.size: 40\n")
    (tmp_path / "planted.py").write_text("open('ran', 'w')\n")
    draw = (
        "from epic100.base.folders import keep_private; keep_private()\n"
        "import sys, matplotlib.pyplot; from epic100.figures.style import drawing\n"
        "with drawing(sys.argv[1], 'A figure') as figure: figure.text(0, 0, 'words')\n"
    )
    python("-P", "-c", draw, tmp_path / "a.svg", cwd=tmp_path)
    with drawing(tmp_path / "b.svg", "A figure") as figure:
        figure.text(0, 0, "words")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize(
    "parent, is_used",
    [
        ("/dev/shm", True),
        (None, False),
        ("/no/such/folder", False),
    ],
)
def test_the_ranks_of_a_node_meet_in_a_folder_that_others_may_not_enter(parent, is_used):
    with private_folder(parent) as folder:
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
        assert (str(Path(folder).parent) == parent) is is_used


@as_root
@pytest.mark.parametrize("command", [("run", "-n"), ("check",)])
def test_a_base_config_that_another_user_made_here_is_not_used(tmp_path, command):
    config = tmp_path / "config/config.yaml"
    config.parent.mkdir()
    config.write_text("run: theirs\n")
    os.chown(config, ANOTHER_USER, ANOTHER_USER)
    screen = said(epic100(*command, cwd=tmp_path, well=False))
    assert f"config/config.yaml: user {ANOTHER_USER} can write it" in screen
