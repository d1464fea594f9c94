"""What others plant in folders and on a node that they share with a run: links, pipes, Python."""

import os
import re
import socket
import stat
from pathlib import Path

import pytest

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.base.folders import keep_private, look_at_folder
from epic100.base.log import rule_log
from epic100.base.ranks import private_folder
from epic100.cli.workflow import snakemake_command
from epic100.download.part import claim, part_path
from epic100.figures.style import drawing
from epic100.slurm.site import read_partitions
from epic100.training import launch
from epic100.training.launch import Nodes, open_store
from support.archive import make_archive, run
from support.checkout import ROOT, python, said

pytestmark = pytest.mark.slow

ANOTHER = 54321
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


def test_a_temporary_file_is_new_each_time_and_as_open_as_the_umask_says(tmp_path):
    names, before = set(), os.umask(0o027)
    try:
        for _ in range(3):
            with atomic_path(tmp_path / "a.txt") as temporary:
                assert temporary.is_file() and not temporary.is_symlink()
                names.add(temporary.name)
                temporary.write_text("x")
            assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    finally:
        os.umask(before)
    assert len(names) == 3 and all(re.fullmatch(r"\.a\.[0-9a-f]{16}\.tmp\.txt", n) for n in names)


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to, lambda p, _: os.mkfifo(p)])
def test_a_link_or_a_pipe_in_the_place_of_a_part_file_is_refused(tmp_path, victim, plant):
    target = tmp_path / "P01_01.MP4"
    plant(part_path(target), victim)
    refused = pytest.raises(EpicError, match=r"P01_01\.MP4\.part: a link or a pipe; .*remove")
    with refused, claim(target):
        pass


@as_root
def test_bytes_of_another_user_are_no_beginning_of_a_download(tmp_path):
    target = tmp_path / "P01_01.MP4"
    part_path(target).write_bytes(b"their beginning")
    os.chown(part_path(target), ANOTHER, ANOTHER)
    with pytest.raises(EpicError, match=rf"\.part: user {ANOTHER} can write it"), claim(target):
        pass
    assert part_path(target).read_bytes() == b"their beginning"


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
    victim = tmp_path / "home"
    names = ["P01.tsv", "P01.index.npz", "P01.log", "scan/P01.tsv", "scan/P01.index.npz"]
    for name in names:
        (victim / name).parent.mkdir(parents=True, exist_ok=True)
        (victim / name).write_text("years of work")
    link = lab / output
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(victim)
    os.lchown(link, ANOTHER, ANOTHER)
    done = run(lab, "results/scan/P01.tsv", "--forcerun", "scan", well=False)
    assert f"{output}: a link or a pipe; expected a plain file; see who put it there" in said(done)
    assert {(victim / name).read_text() for name in names} == {"years of work"}


def uses_the_profile_here() -> bool:
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
    files = dict.fromkeys(("profiles/default/config.yaml", "config/mine.yaml"), "cores: 1\n")
    for file, text in (files | {PARTITIONS: (ROOT / PARTITIONS).read_text()}).items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text)
    assert use()
    os.chown(path, ANOTHER, ANOTHER)
    with pytest.raises(EpicError, match=f"{path}: user {ANOTHER} can write it, and what is in"):
        use()


def test_a_default_profile_of_the_working_folder_is_not_read_by_epic100_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("default").mkdir()
    command = snakemake_command(["-n"])
    assert command[command.index("--workflow-profile") + 1] == "none"
    # The profile that ships asks for this.
    assert "--rerun-incomplete" in command


@as_root
def test_a_folder_that_others_can_write_is_told_once_and_their_snakemake_files_stop_the_run(
    tmp_path,
):
    assert look_at_folder(tmp_path) == ""
    (tmp_path / ".snakemake").mkdir()
    os.chown(tmp_path / ".snakemake", ANOTHER, ANOTHER)
    with pytest.raises(EpicError, match=rf"\.snakemake: user {ANOTHER} can write it"):
        look_at_folder(tmp_path)
    (tmp_path / ".snakemake").rmdir()
    for mode, group, who in ((0o777, 0, "every user"), (0o775, ANOTHER, f"group {ANOTHER}")):
        os.chown(tmp_path, 0, group)
        tmp_path.chmod(mode)
        assert f"{who} can write to this folder" in look_at_folder(tmp_path)
    tmp_path.chmod(0o755)
    os.chown(tmp_path, ANOTHER, 0)
    assert f"user {ANOTHER} can write to this folder" in look_at_folder(tmp_path)


PLANTS = {
    "a file": lambda path, user: path.write_text(""),
    "a folder": lambda path, user: (path.mkdir(), os.chown(path, user, user)),
    "a link": lambda path, user: path.symlink_to("elsewhere"),
}


@as_root
@pytest.mark.parametrize("plant", [None, *PLANTS])
def test_caches_of_libraries_are_where_no_other_user_can_write(tmp_path, monkeypatch, plant):
    (tmp_path / "elsewhere").mkdir(mode=0o777)
    usual = tmp_path / f"epic100-{os.getuid()}"
    if plant:
        PLANTS[plant](usual, ANOTHER)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR", "MPLBACKEND"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    keep_private()
    for name in ("TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR"):
        folder = Path(os.environ[name]).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and folder.stat().st_uid == os.getuid()
        assert (folder == usual) == (plant is None) and not folder.is_symlink()


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


def test_a_port_in_use_and_a_node_that_does_not_come_are_one_error(monkeypatch):
    monkeypatch.setattr(launch, "WAIT_SECONDS", 2)
    words = "process 0 of 2 cannot use 127.0.0.1:{}, where the nodes of this training meet"
    for used in (True, False):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            if not used:
                other.close()
            with pytest.raises(EpicError, match=words.format(port)):
                open_store(Nodes("127.0.0.1", port, "run"), rank=0, processes=2)


@pytest.mark.parametrize("parent", ["/dev/shm", None, "/no/such/folder"])
def test_the_ranks_of_a_node_meet_in_a_folder_that_others_may_not_enter(parent):
    with private_folder(parent) as folder:
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
        assert (Path(folder).parent == Path(parent or "")) is (parent == "/dev/shm")
    assert not Path(folder).exists()
