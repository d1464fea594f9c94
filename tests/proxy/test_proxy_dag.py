"""When copies are made and when not, counted on the real DAG."""

import pytest

from epic100.minikitchen import write_video
from support.archive import VIDEOS, configure, jobs, run, said

pytestmark = pytest.mark.slow

TARGETS = ("results/proxies/P01.index.npz", "results/proxies/P02.index.npz",
           "results/clean/pairs.tsv")  # fmt: skip
PREDICTIONS = "results/predictions/val.pt"


def run_with(folder, proxy, *words, **changes):
    videos = {"sheet": "sheet.tsv", "root": "archive", "proxy": proxy}
    configure(folder, **{"videos": videos} | changes)
    return run(folder, *words)


def stamps(folder):
    """Time of change of every copy."""
    copies = {v.video_id: v.path(folder) for v in VIDEOS}
    return {name: path.stat().st_mtime_ns for name, path in copies.items() if path.exists()}


@pytest.fixture(scope="module")
def steps(clean_archive, tmp_path_factory):
    """Runs on one archive, one after another: what each said and the times of the copies then."""
    archive, found = clean_archive(tmp_path_factory.mktemp("steps")), {}
    scratch = tmp_path_factory.mktemp("scratch")

    def step(name, *arguments, **changes):
        done = run_with(archive, *arguments, **changes)
        table = (archive / "results/proxies/P02.tsv").read_text()
        found[name] = done, stamps(archive / "results/proxies"), stamps(scratch), table

    other_scan = {"scan": {"min_seconds": 400}}
    step("first", {"height": 60}, *TARGETS)
    step("again", {"height": 60}, *TARGETS, "-n")
    step("other limits", {"height": 60}, *TARGETS, **other_scan)
    elsewhere = {"height": 48, "root": str(scratch)}
    step("elsewhere", elsewhere, *TARGETS, **other_scan)
    write_video(VIDEOS[1], VIDEOS[1].path(archive / "archive"), seed=2, damage="zeroed")
    VIDEOS[2].path(archive / "archive").unlink()
    step("other videos", elsewhere, *TARGETS, **other_scan)
    others = {"clean": {"policy": "video"}, "train": {"epochs": 3}, "predict": {"clips": 10},
              "export": {"reduce": "logsumexp"}, "participants": {"exclude": ["P01"]}}  # fmt: skip
    step("other sections", elsewhere, PREDICTIONS, "-n", **other_scan, **others)
    return found


def test_copies_stand_beside_their_table_and_all_is_done(steps):
    done, copies, _, table = steps["first"]
    assert jobs(done) == {"proxy": 2} and set(copies) == {video.video_id for video in VIDEOS}
    assert "P02_101\tcopied\t106\t60\t400\t0\t" in table
    assert "Nothing to be done" in said(steps["again"][0])


def test_what_runs_the_job_again_without_cause_makes_no_copy_again(steps):
    """Other limits of the scan do."""
    done, copies, *_ = steps["other limits"]
    assert jobs(done)["proxy"] == 2 and copies == steps["first"][1]
    assert "2 videos: 2 copied; 0 of them worked on now" in said(done)


def test_copies_of_another_height_can_stand_on_another_disk(steps):
    done, copies, others, table = steps["elsewhere"]
    assert jobs(done) == {"proxy": 2} and "P02_101\tcopied\t86\t48\t400\t0\t" in table
    assert set(others) == set(copies) and copies == steps["first"][1]


def test_only_a_replaced_video_is_copied_again_and_a_missing_one_breaks_nothing(steps):
    done, _, copies, table = steps["other videos"]
    assert jobs(done) == {"scan": 1, "clean": 1, "proxy": 1}
    before = steps["elsewhere"][2]
    assert [name for name in copies if copies[name] != before[name]] == ["P02_101"]
    assert "2 videos: 1 copied, 1 none; 1 of them worked on now" in said(done)
    assert "P02_102\tnone" in table


def test_another_section_of_the_config_touches_no_copy(steps):
    """Nor is the copy of a participant who is left out asked for."""
    done = steps["other sections"][0]
    assert {"clean", "train", "predict"} <= set(jobs(done)) and "proxy" not in jobs(done)
    assert "P01.index.npz" not in said(done)


def test_training_and_prediction_wait_for_the_copies_only_where_they_are_asked_for(
    new_archive, tmp_path
):
    archive = new_archive(tmp_path)
    plan = {"annotate": 2, "scan": 2, "clean": 1, "weights": 1, "train": 1, "predict": 1}
    assert jobs(run_with(archive, None, PREDICTIONS, "-n")) == plan
    assert jobs(run_with(archive, {"height": 60}, PREDICTIONS, "-n")) == plan | {"proxy": 2}
