"""A lab without the videos trains and predicts from their extracted frames."""

import json
import shutil
from pathlib import Path

from epic100.video.reader import VideoReader
from epic100.video.scan_table import read_scan_table
from support.archive import VIDEOS, configure, run, said
from support.small_runs import SMALL
from support.tricky_videos import frame_file, pack, write_frames

SETTINGS = {
    "train": {
        "config": "config/x3d_demo.py",
        "options": SMALL,
        "from_scratch": True,
        "epochs": 1,
        "batch_size": 16,
        "workers": 0,
    },
    "predict": {"clips": 1, "workers": 0},
}


def extract(root: Path) -> None:
    """Put the frames of each film in its place: P01's in a folder, P02's in tars."""
    for video in VIDEOS:
        film = video.path(root)
        reader = VideoReader(film)
        folder = root / video.participant_id / "rgb_frames" / video.video_id
        write_frames(folder, reader.get_frames(range(reader.frames)))
        film.unlink()
        if video.participant_id == "P02":
            pack(folder)
            shutil.rmtree(folder)


def test_the_whole_workflow_runs_on_frames(archive):
    root = archive / "archive"
    extract(root)
    frame_file(root / "P01/rgb_frames/P01_01", 300).unlink()
    configure(archive, **SETTINGS)
    run(archive)
    (row,) = read_scan_table(archive / "results/scan/P01.tsv")
    assert (row.judged, row.damaged, row.fps) == ("frames", [(300, 301)], 60.0)
    (dropped,) = (archive / "results/clean/dropped.tsv").read_text().splitlines()[1:]
    assert "P01_01" in dropped
    assert json.loads((archive / "results/metrics.json").read_text())["segments"]
    # The page shows small clips that are cut from the frames.
    run(archive, "results/browse/index.html")
    assert list((archive / "results/browse").rglob("*.mp4"))
    # Copies of frames are links to them.
    configure(archive, videos={"sheet": "sheet.tsv", "root": "archive", "proxy": {}}, **SETTINGS)
    run(archive, "results/proxies/P01.index.npz")
    assert (archive / "results/proxies/P01/P01_01.MP4").is_symlink()


def test_a_film_goes_before_its_frames(archive):
    root = archive / "archive"
    films = {video: video.path(root).read_bytes() for video in VIDEOS}
    extract(root)
    for video, film in films.items():
        video.path(root).write_bytes(film)
    done = run(archive, "results/scan/P01.tsv")
    assert "3 have a film and extracted frames: the film is read" in said(done)
    (row,) = read_scan_table(archive / "results/scan/P01.tsv")
    assert row.judged == "full"
    pattern = {"pattern": "{participant}/rgb_frames/{video}"}
    configure(archive, videos={"sheet": "sheet.tsv", "root": "archive", **pattern})
    run(archive, "results/scan/P01.tsv")
    (row,) = read_scan_table(archive / "results/scan/P01.tsv")
    assert row.judged == "frames"
