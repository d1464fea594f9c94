"""When copies are made and when not, counted on the real DAG."""

import pytest

from support.archive import VIDEOS, configure, jobs, run, said

pytestmark = pytest.mark.slow

TARGETS = [f"results/{name}" for name in ("proxies/P01.index.npz", "proxies/P02.index.npz")]


PREDICTIONS = "results/predictions/val.pt"


def test_copies_are_made_once_per_setting(clean_archive, tmp_path):
    archive, copy = clean_archive(tmp_path / "lab"), VIDEOS[0].path(tmp_path / "scratch")

    def run_with(height, *words, **changes):
        proxy = {"height": height, "root": str(tmp_path / "scratch")}
        videos = {"sheet": "sheet.tsv", "root": "archive", "proxy": proxy}
        configure(archive, videos=videos, **changes)
        return run(archive, *words)

    assert jobs(run_with(60, *TARGETS)) == {"proxy": 2}
    first = copy.read_bytes()
    assert "Nothing to be done" in said(run_with(60, *TARGETS, "-n"))
    # These limits run the job again, but it makes no copy again.
    limits = {"scan": {"min_seconds": 400}}
    done = run_with(60, *TARGETS, **limits)
    assert jobs(done)["proxy"] == 2 and copy.read_bytes() == first
    assert "2 videos: 2 copied; 0 of them worked on now" in said(done)
    assert jobs(run_with(48, *TARGETS, **limits)) == {"proxy": 2} and copy.read_bytes() != first
    others = {"clean": {"policy": "video"}, "train": {"epochs": 3}, "predict": {"clips": 10}}
    others |= {"export": {"reduce": "logsumexp"}, "participants": {"exclude": ["P01"]}}
    done = run_with(48, PREDICTIONS, "-n", **limits, **others)
    assert {"clean", "train", "predict"} <= set(jobs(done)) and "proxy" not in jobs(done)
    assert "P01.index.npz" not in said(done), "nor is that of a participant who is left out"


def test_only_requested_copies_are_waited_for(archive):
    plan = {"annotate": 2, "scan": 2, "clean": 1, "weights": 1, "train": 1, "predict": 1}
    assert jobs(run(archive, PREDICTIONS, "-n")) == plan
    configure(archive, videos={"sheet": "sheet.tsv", "root": "archive", "proxy": {"height": 60}})
    assert jobs(run(archive, PREDICTIONS, "-n")) == plan | {"proxy": 2}
