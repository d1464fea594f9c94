"""Data that several tests look at, made once a session: real videos, a small lab, the demo."""

import os

# Torch's threads spin while they wait, unless OpenMP hears otherwise before torch is imported. On
# cores with other work that makes the tests' trainings three times as long, in the same bits.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from support.checkout import ROOT
from support.decoder_stand_in import FRAMES
from support.lab import Lab, make_lab
from support.tricky_videos import encode, sound_videos

SLOW_FIXTURES = {"demo", "rig", "new_archive"}

# `nohup` and scripts start what runs in the background with these signals ignored, and each program
# would inherit that. A handler, even one that does nothing, is reset to the default there.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark as slow what uses the demo, an archive or Slurm; other slow files mark themselves.

    A worker of pytest-xdist takes a file as a whole, and one takes all that looks at the demo. The
    slow ones begin there, so that no worker is left with one at the end.
    """
    begins: dict[str, int] = {}
    for item in items:
        if SLOW_FIXTURES.intersection(item.fixturenames):
            item.add_marker(pytest.mark.slow)
        group = "demo" if "demo" in item.fixturenames else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
        rank = 0 if group == "demo" else 1 if item.get_closest_marker("slow") else 2
        begins[group] = min(rank, begins.get(group, rank))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: begins[item.get_closest_marker("xdist_group").args[0]])


@pytest.fixture(autouse=True)
def same_threads():
    """Torch's thread count as before: a prediction sets it, and bits depend on it."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Makes what is shared, in a folder of the session, once for all workers; returns its value."""

    def shared(name, make):
        base = tmp_path_factory.getbasetemp()
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared_{name}"
        value = folder.with_suffix(".pickle")
        with FileLock(f"{folder}.lock"):
            if not value.exists():
                folder.mkdir()
                value.write_bytes(pickle.dumps(make(folder)))
        return pickle.loads(value.read_bytes())

    return shared


@pytest.fixture(scope="session")
def lab(once) -> Lab:
    return once("lab", make_lab)


@pytest.fixture(scope="session")
def short_video(once) -> bytes:
    """A sound file of three seconds."""
    return once("short", lambda folder: encode(folder / "v.MP4", FRAMES, movflags="faststart")
                .read_bytes())  # fmt: skip


@pytest.fixture(scope="session")
def sound(once) -> dict[str, Path]:
    """Sound files of every kind, by name; to be read only."""
    return once("sound", sound_videos)


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """The folder of one whole demo run: the DAG from nothing to the submission.

    EPIC100_DEMO names a folder to run in, so that a run can be looked at or gone on with. It is
    started as a user starts it, so that Snakemake's benchmarks are of the jobs.
    """
    folder = Path(os.environ.get("EPIC100_DEMO") or tmp_path_factory.mktemp("demo"))
    command = [sys.executable, "-m", "snakemake", "all", "--directory", str(folder),
               "--configfile", "config/demo.yaml"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
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
def new_archive(once):
    """Copies the archive of tests/support/archive.py, filmed once, into a folder."""
    from support.archive import make_archive

    model = once("archive", make_archive)
    return lambda folder: Path(shutil.copytree(model, folder, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def clean_archive(new_archive, once):
    """Copies that archive with its scans and clean lists, made once by the workflow."""
    from support.archive import run, said

    def make(folder):
        done = run(new_archive(folder), "results/clean/pairs.tsv")
        assert done.returncode == 0, said(done)
        return folder

    model = once("clean_archive", make)
    return lambda folder: Path(shutil.copytree(model, folder, dirs_exist_ok=True))


@pytest.fixture
def held(rig):
    """Jobs on wice's batch partition wait until `held()` is called, or the test ends."""

    def state(word):
        rig.at("wice", "scontrol", "update", "PartitionName=batch", f"State={word}")

    state("DOWN")
    yield lambda: state("UP")
    state("UP")
