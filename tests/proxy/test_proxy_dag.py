"""When copies are made and when not, counted on the real DAG."""

import pytest

from epic100.minikitchen import write_video
from support.archive import VIDEOS, configure, jobs, run, said

pytestmark = pytest.mark.slow

TARGETS = ("results/proxies/P01.index.npz", "results/proxies/P02.index.npz",
           "results/clean/pairs.tsv")  # fmt: skip
PREDICTIONS = "results/predictions/val.pt"


def test_copies_are_made_once_of_a_video_with_its_settings_wherever_they_stand(
    clean_archive, tmp_path
):
    archive, scratch = clean_archive(tmp_path / "lab"), tmp_path / "scratch"

    def run_with(proxy, *words, **changes):
        videos = {"sheet": "sheet.tsv", "root": "archive", "proxy": proxy}
        configure(archive, videos=videos, **changes)
        return run(archive, *words)

    def times(folder):
        copies = {video.video_id: video.path(folder) for video in VIDEOS}
        return {name: path.stat().st_mtime_ns for name, path in copies.items() if path.exists()}

    beside, table = archive / "results/proxies", archive / "results/proxies/P02.tsv"
    assert jobs(run_with({"height": 60}, *TARGETS)) == {"proxy": 2}
    first = times(beside)
    assert set(first) == {video.video_id for video in VIDEOS}
    assert "P02_101\tcopied\t106\t60\t400\t0\t" in table.read_text()
    assert "Nothing to be done" in said(run_with({"height": 60}, *TARGETS, "-n"))

    # These limits run the job again, but it makes no copy again.
    limits = {"scan": {"min_seconds": 400}}
    done = run_with({"height": 60}, *TARGETS, **limits)
    assert jobs(done)["proxy"] == 2 and times(beside) == first
    assert "2 videos: 2 copied; 0 of them worked on now" in said(done)

    elsewhere = {"height": 48, "root": str(scratch)}
    assert jobs(run_with(elsewhere, *TARGETS, **limits)) == {"proxy": 2}
    assert "P02_101\tcopied\t86\t48\t400\t0\t" in table.read_text()
    small = times(scratch)
    assert set(small) == set(first) and times(beside) == first

    write_video(VIDEOS[1], VIDEOS[1].path(archive / "archive"), seed=2, damage="zeroed")
    VIDEOS[2].path(archive / "archive").unlink()
    done = run_with(elsewhere, *TARGETS, **limits)
    assert jobs(done) == {"scan": 1, "clean": 1, "proxy": 1}
    assert [name for name, time in times(scratch).items() if time != small[name]] == ["P02_101"]
    assert "2 videos: 1 copied, 1 none; 1 of them worked on now" in said(done)
    assert "P02_102\tnone" in table.read_text()

    others = {"clean": {"policy": "video"}, "train": {"epochs": 3}, "predict": {"clips": 10},
              "export": {"reduce": "logsumexp"}, "participants": {"exclude": ["P01"]}}  # fmt: skip
    done = run_with(elsewhere, PREDICTIONS, "-n", **limits, **others)
    assert {"clean", "train", "predict"} <= set(jobs(done)) and "proxy" not in jobs(done)
    assert "P01.index.npz" not in said(done), "nor is that of a participant who is left out"


def test_training_and_prediction_wait_for_the_copies_only_where_they_are_asked_for(archive):
    plan = {"annotate": 2, "scan": 2, "clean": 1, "weights": 1, "train": 1, "predict": 1}
    assert jobs(run(archive, PREDICTIONS, "-n")) == plan
    configure(archive, videos={"sheet": "sheet.tsv", "root": "archive", "proxy": {"height": 60}})
    assert jobs(run(archive, PREDICTIONS, "-n")) == plan | {"proxy": 2}
