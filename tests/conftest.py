"""Data that several tests look at, made once a session: real videos, a small lab, the demo."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from house import FRAMES
from tricky_videos import encode, sound_videos

from epic100.annotations import index_segments, load_annotations
from epic100.cleaning import clean
from epic100.minikitchen import write_annotations, write_video
from epic100.scan import scan_participant
from epic100.segments import write_segments
from epic100.sheet import Video

ROOT = Path(__file__).resolve().parent.parent
CLASSES = {"verbs": 97, "nouns": 300}
LAB_VIDEOS = (
    Video("P01_01", "P01", "train", 60000 / 1001, 12.012),
    Video("P02_101", "P02", "train", 50.0, 12.0),
    Video("P03_07", "P03", "train", 30000 / 1001, 12.012),
    Video("P01_02", "P01", "val", 60000 / 1001, 12.012),
)


def run_snakemake(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Run the workflow as a user would; stdout and stderr come back as text."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1500)


@dataclass(frozen=True)
class Lab:
    """A small lab's folder, every stage up to the clean lists done by the library itself."""

    folder: Path
    videos: dict[str, Video]

    @property
    def results(self) -> str:
        return str(self.folder / "results")

    @property
    def root(self) -> str:
        return str(self.folder / "videos")


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Lab:
    folder = tmp_path_factory.mktemp("lab")
    videos = {video.video_id: video for video in LAB_VIDEOS}
    results, annotations = folder / "results", folder / "annotations"
    write_annotations(LAB_VIDEOS, annotations, seed=1)
    csvs = {
        "train": str(annotations / "EPIC_100_train.csv"),
        "val": str(annotations / "EPIC_100_validation.csv"),
    }
    segments = {split: str(results / f"segments/{split}.txt") for split in csvs}
    for split, path in csvs.items():
        table = load_annotations(path, videos, split=split, classes=CLASSES)
        write_segments(index_segments(table, videos), segments[split])
    scans = []
    for participant in ("P01", "P02", "P03"):
        own = [video for video in LAB_VIDEOS if video.participant_id == participant]
        for video in own:
            write_video(video, video.path(folder / "videos"), seed=1)
        table = results / f"scan/{participant}.tsv"
        scan_participant(own, folder / "videos", table, table.with_suffix(".index.npz"))
        scans.append(str(table))
    clean(
        videos,
        annotations=csvs,
        segments=segments,
        scans=scans,
        lists={split: str(results / f"clean/{split}.txt") for split in csvs},
        pairs=str(results / "clean/pairs.tsv"),
        dropped=str(results / "clean/dropped.tsv"),
        salvage=str(results / "clean/salvage.tsv"),
        policy="segment",
        classes=CLASSES,
    )
    return Lab(folder, videos)


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


@pytest.fixture(scope="session")
def rig(tmp_path_factory):
    """Two real Slurm clusters (tests/slurm/rig.py), where Slurm's daemons are installed."""
    from slurm.rig import Rig, missing

    if why := missing():
        if os.environ.get("EPIC100_SLURM_TESTS") == "required":
            pytest.fail(f"the tests on Slurm are required here, but {why}")
        pytest.skip(f"no test on real Slurm: {why}; .ci/run names the packages")
    rig = Rig(tmp_path_factory.mktemp("rig"))
    try:
        rig.start()
        yield rig
    finally:
        rig.stop()


@pytest.fixture(scope="session")
def new_archive(tmp_path_factory):
    """Copies the archive of tests/archive.py, filmed once, into a folder."""
    from archive import make_archive

    model = make_archive(tmp_path_factory.mktemp("archive"))
    return lambda folder: Path(shutil.copytree(model, folder, dirs_exist_ok=True))


@pytest.fixture
def held(rig):
    """Jobs on wice's batch partition wait until `held()` is called, or the test ends."""

    def state(word):
        rig.at("wice", "scontrol", "update", "PartitionName=batch", f"State={word}")

    state("DOWN")
    yield lambda: state("UP")
    state("UP")
