"""Data that several tests look at, made once a session: real videos, a small lab, the demo."""

import os

# Torch's threads spin while they wait, unless OpenMP hears otherwise before torch is imported. On
# cores with other work that makes the tests' trainings three times as long, in the same bits.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import shutil
from pathlib import Path

import pytest
import torch

from support.checkout import run_snakemake
from support.decoder_stand_in import FRAMES
from support.lab import Lab, make_lab
from support.tricky_videos import encode, sound_videos

SLOW_FIXTURES = {"demo", "rig", "new_archive"}


def pytest_collection_modifyitems(items):
    """Mark as slow what uses the demo, an archive or Slurm; other slow files mark themselves."""
    for item in items:
        if SLOW_FIXTURES.intersection(item.fixturenames):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def same_threads():
    """Torch's thread count as before: a prediction sets it, and bits depend on it."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="session")
def short_video(tmp_path_factory) -> bytes:
    """A sound file of three seconds."""
    path = tmp_path_factory.mktemp("short") / "v.MP4"
    return encode(path, FRAMES, movflags="faststart").read_bytes()


@pytest.fixture(scope="session")
def sound(tmp_path_factory) -> dict[str, Path]:
    """Sound files of every kind, by name; to be read only."""
    return sound_videos(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """The folder of one whole demo run: the DAG from nothing to the submission.

    EPIC100_DEMO names a folder to run in, so that a run can be looked at or gone on with.
    """
    folder = Path(os.environ.get("EPIC100_DEMO") or tmp_path_factory.mktemp("demo"))
    done = run_snakemake("all", "--directory", str(folder), "--configfile", "config/demo.yaml")
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


@pytest.fixture
def server(monkeypatch):
    """A server on this machine that misbehaves when asked to; no proxy stands before it."""
    from support.fault_server import serving

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def rig(tmp_path_factory):
    """Two real Slurm clusters (tests/support/slurm_rig.py), where Slurm's daemons are installed."""
    from support.slurm_rig import VSC, running

    with running(tmp_path_factory.mktemp("rig"), VSC) as rig:
        yield rig


@pytest.fixture(scope="session")
def new_archive(tmp_path_factory):
    """Copies the archive of tests/support/archive.py, filmed once, into a folder."""
    from support.archive import make_archive

    model = make_archive(tmp_path_factory.mktemp("archive"))
    return lambda folder: Path(shutil.copytree(model, folder, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def clean_archive(new_archive, tmp_path_factory):
    """Copies that archive with its scans and clean lists, made once by the workflow."""
    from support.archive import run, said

    model = new_archive(tmp_path_factory.mktemp("clean_archive"))
    done = run(model, "results/clean/pairs.tsv")
    assert done.returncode == 0, said(done)
    return lambda folder: Path(shutil.copytree(model, folder, dirs_exist_ok=True))


@pytest.fixture
def held(rig):
    """Jobs on wice's batch partition wait until `held()` is called, or the test ends."""

    def state(word):
        rig.at("wice", "scontrol", "update", "PartitionName=batch", f"State={word}")

    state("DOWN")
    yield lambda: state("UP")
    state("UP")
