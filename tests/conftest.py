"""Data that several tests look at, made once a session: real videos, a small lab, the demo.

The process that only hands tests to workers reads this file too. So what takes seconds to import is
imported by the fixtures that need it.
"""

import os

# Tests work side by side, with one thread each. With a second one, their small models cost a third
# more CPU time, and the last digit of sums changes. Where a test asks for more threads, they do not
# spin while they wait. The import of torch reads these variables.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

import pickle
import shutil
import signal
from pathlib import Path

import pytest
from filelock import FileLock
from xdist.scheduler import LoadFileScheduling

from support.checkout import SHORT_DEMO, python

SLOW_FIXTURES = {"demo", "rig", "new_archive"}
DEMO_FILES = {
    f"tests/{name}.py"
    for name in (
        "behaviour/test_results",
        "prediction/test_demo_features",
        "pages/test_report",
        "prediction/test_demo_timeline",
        "workflow/test_docs",
    )
}

# `make test` leaves these folders and files to `make test-slow`. A single test marks itself.
THOROUGH_FOLDERS = ("attacks", "benchmarks", "slurm", "tools")
THOROUGH = {
    "base": ["guarded"],
    "cli": ["lab_checkpoint"],
    "data": ["download_rules"],
    "model": ["forward"],
    "pages": ["browse_clips", "browse_views"],
    "prediction": ["demo_features", "demo_timeline"],
    "scan": ["false_alarms"],
    "training": ["launch", "models", "reference_steps"],
    "video": ["copies", "proxy_dag"],
    "workflow": [
        *("disturbed_jobs", "encoders", "environment", "extend", "ffmpeg_lines", "from_frames"),
        *("refusals", "runs", "walks", "zoo"),
    ],
}
THOROUGH_FILES = {
    f"tests/{folder}/test_{name}.py" for folder, names in THOROUGH.items() for name in names
}

# `nohup` and scripts start what runs in the background with these signals ignored, and each program
# would inherit that. A handler, even one that does nothing, is reset to the default there. A fork
# keeps it, so that of Ctrl-C is Python's own.
HANDLERS = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: lambda *_: None}
for number, handler in HANDLERS.items():
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


class ByFile(LoadFileScheduling):
    """A worker of pytest-xdist takes a file as a whole, and one takes all that looks at the demo.

    (`--dist loadgroup` of xdist 3.8 marks what pytest 9 no longer reads.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "demo" if file in DEMO_FILES else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


def pytest_collection_modifyitems(items):
    """Mark as slow what uses the demo, an archive or Slurm, and what is thorough.

    Other slow files mark themselves.

    Workers begin with the demo and slow files, so that none is left with one at the end.
    """
    ranks = {}
    for item in items:
        file, uses_demo = item.nodeid.partition("::")[0], "demo" in item.fixturenames
        assert not uses_demo or file in DEMO_FILES, f"{file} uses the demo: name it in DEMO_FILES"
        if file in THOROUGH_FILES or file.split("/")[1] in THOROUGH_FOLDERS:
            item.add_marker(pytest.mark.thorough)
        if SLOW_FIXTURES.intersection(item.fixturenames) or item.get_closest_marker("thorough"):
            item.add_marker(pytest.mark.slow)
        slow = item.get_closest_marker("slow") is not None
        ranks[file] = max(ranks.get(file, 0), 2 if file in DEMO_FILES else slow)
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: -ranks[item.nodeid.partition("::")[0]])


@pytest.fixture(scope="session", autouse=True)
def mmaction_scope():
    """Models are looked up in MMAction2's registry, as MMEngine's Runner does for a config."""
    from mmengine.registry import init_default_scope

    init_default_scope("mmaction")


@pytest.fixture(autouse=True)
def same_threads():
    """Torch's thread count as before: a prediction sets it, and bits depend on it."""
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def guarded_calls(request):
    """Make guarded calls in forks, which takes less time; tests/base has processes as in use."""
    if request.path.parent.name == "base":
        yield
        return
    from support.forked_reads import forked_reads

    with forked_reads():
        yield


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
def lab(once):
    """A small lab (tests/support/lab.py); to be read only."""
    from support.lab import make_lab

    return once("lab", make_lab)


@pytest.fixture(scope="session")
def model(lab, once) -> Path:
    """A model of random weights for the lab's pairs; to be read only."""
    from support.models import save_random_model

    return once("model", lambda folder: save_random_model(lab, folder / "model.pth"))


@pytest.fixture(scope="session")
def short_video(once) -> bytes:
    """An undamaged file of three seconds."""
    from support.decoder_stand_in import FRAMES
    from support.tricky_videos import encode

    path = once("short", lambda folder: encode(folder / "v.MP4", FRAMES, movflags="faststart"))
    return path.read_bytes()


@pytest.fixture(scope="session")
def undamaged(once) -> dict[str, Path]:
    """Undamaged files of every type, by name; to be read only."""
    from support.tricky_videos import undamaged_videos

    return once("undamaged", undamaged_videos)


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """The folder of one whole demo run: the DAG from nothing to the submission.

    One worker takes all tests that look at it, so a session makes it once. EPIC100_DEMO names a
    folder to run in: a run can be looked at, and another session goes on with it, which takes
    seconds where nothing is left to do (.ci/run has two). It is started as a user starts it, so
    that Snakemake's benchmarks are of the jobs.
    """
    folder = Path(os.environ.get("EPIC100_DEMO") or tmp_path_factory.mktemp("demo"))
    options = ("--directory", folder, "--set-threads", "train=1", "--configfile", *SHORT_DEMO)
    python("-m", "snakemake", "all", *options)
    return folder


@pytest.fixture
def server(monkeypatch):
    """A server on this machine that misbehaves when asked to; no proxy stands before it.

    Downloads of this process have less patience than in use.
    """
    from support.failing_server import serving

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("epic100.data.fetch.TRIES", 4)
    monkeypatch.setattr("epic100.data.fetch.STALL_SECONDS", 5)
    monkeypatch.setattr("epic100.data.fetch.PAUSE_SECONDS", 0.01)
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
    from support.archive import run

    def make(folder):
        run(new_archive(folder), "results/clean/pairs.tsv")
        return folder

    model = once("clean_archive", make)
    return lambda folder: Path(shutil.copytree(model, folder, dirs_exist_ok=True))


@pytest.fixture
def archive(new_archive, tmp_path) -> Path:
    """That archive, to be spoilt."""
    return new_archive(tmp_path)


@pytest.fixture
def cleaned(clean_archive, tmp_path) -> Path:
    """That archive with its clean lists, to be spoilt."""
    return clean_archive(tmp_path)


@pytest.fixture
def held(rig):
    """Jobs on wice's batch partition wait until `held()` is called, or the test ends."""

    def state(word):
        rig.at("wice", "scontrol", "update", "PartitionName=batch", f"State={word}")

    state("DOWN")
    yield lambda: state("UP")
    state("UP")
