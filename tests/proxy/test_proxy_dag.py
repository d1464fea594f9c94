"""When copies are made and when not, counted on the real DAG."""

import time

import pytest

from epic100.minikitchen import write_video
from support.archive import VIDEOS, configure, errors, jobs, run, said

pytestmark = pytest.mark.slow

INDEXES = ("results/proxies/P01.index.npz", "results/proxies/P02.index.npz")
TARGETS = (*INDEXES, "results/clean/pairs.tsv")


def with_proxies(folder, **changes):
    proxy = {"height": 60, "gop": 12} | changes.pop("proxy", {})
    videos = {"sheet": "sheet.tsv", "root": "archive"}
    configure(folder, **{"videos": videos | {"proxy": proxy}} | changes)


@pytest.fixture(scope="module")
def copied(new_archive, tmp_path_factory):
    """An archive whose copies are made. Tests leave it as they found it."""
    folder = new_archive(tmp_path_factory.mktemp("copied"))
    with_proxies(folder)
    done = run(folder, *TARGETS)
    assert done.returncode == 0, said(done)
    assert jobs(done) == {"annotate": 2, "scan": 2, "clean": 1, "proxy": 2}
    return folder


def stamps(folder):
    """Time of change of every copy."""
    copies = {v.video_id: v.path(folder / "results/proxies") for v in VIDEOS}
    return {name: path.stat().st_mtime_ns for name, path in copies.items() if path.exists()}


def test_copies_stand_beside_their_table_and_all_is_done(copied):
    assert set(stamps(copied)) == {video.video_id for video in VIDEOS}
    table = (copied / "results/proxies/P02.tsv").read_text()
    assert "P02_101\tcopied\t106\t60\t400\t0\t" in table
    assert "Nothing to be done" in said(run(copied, *TARGETS, "-n"))


def test_training_and_prediction_wait_for_the_copies_only_where_they_are_asked_for(
    new_archive, tmp_path
):
    archive = new_archive(tmp_path)
    target = "results/predictions/val.pt"
    assert "proxy" not in jobs(run(archive, target, "-n"))
    with_proxies(archive)
    assert jobs(run(archive, target, "-n")) == {
        "annotate": 2, "scan": 2, "clean": 1, "proxy": 2, "weights": 1, "train": 1, "predict": 1,
    }  # fmt: skip
    configure(archive, videos={"sheet": "sheet.tsv", "root": "archive", "proxy": None})
    assert "proxy" not in jobs(run(archive, target, "-n"))


@pytest.mark.parametrize("changes", [
    {"clean": {"policy": "video"}}, {"train": {"epochs": 3}}, {"export": {"reduce": "logsumexp"}},
    {"predict": {"clips": 10}},
])  # fmt: skip
def test_another_section_of_the_config_touches_no_copy(changes, copied):
    with_proxies(copied, **changes)
    done = run(copied, "results/predictions/val.pt", "-n")
    assert done.returncode == 0 and "proxy" not in jobs(done), said(done)


def test_what_runs_the_job_again_without_cause_makes_no_copy_again(copied):
    before = stamps(copied)
    with_proxies(copied, scan={"min_seconds": 400})
    done = run(copied, *TARGETS)
    assert jobs(done)["proxy"] == 2, said(done)
    assert "2 copied; 0 of them worked on now" in said(done)
    assert stamps(copied) == before


def test_another_height_makes_all_copies_again_and_a_replaced_video_its_own(new_archive, tmp_path):
    archive = new_archive(tmp_path)
    with_proxies(archive)
    assert run(archive, *TARGETS).returncode == 0
    first = stamps(archive)
    with_proxies(archive, proxy={"height": 48})
    done = run(archive, *TARGETS)
    assert jobs(done) == {"proxy": 2}, said(done)
    second = stamps(archive)
    assert all(second[name] != first[name] for name in first)
    time.sleep(0.1)
    write_video(VIDEOS[1], VIDEOS[1].path(archive / "archive"), seed=2, damage="zeroed")
    done = run(archive, *TARGETS)
    assert jobs(done) == {"scan": 1, "clean": 1, "proxy": 1}, said(done)
    third = stamps(archive)
    assert [name for name in third if third[name] != second[name]] == ["P02_101"]
    assert "2 videos: 2 copied; 1 of them worked on now" in said(done)


def test_another_default_of_a_later_version_makes_no_copy_again(new_archive, tmp_path):
    archive = new_archive(tmp_path)
    earlier = {"gop": 12, "crf": 20, "b_frames": 0}  # made these copies without being asked for
    with_proxies(archive, proxy=earlier)
    assert run(archive, INDEXES[1]).returncode == 0
    before = stamps(archive)
    videos = {"sheet": "sheet.tsv", "root": "archive", "proxy": {"height": 60}}
    configure(archive, videos=videos)
    done = run(archive, INDEXES[1])
    assert jobs(done) == {"proxy": 1}, said(done)
    assert "2 videos: 2 copied; 0 of them worked on now" in said(done)
    assert "2 copies were made with earlier defaults and are kept" in said(done)
    assert stamps(archive) == before


def test_missing_unreadable_and_left_out_videos_break_nothing(new_archive, tmp_path):
    archive = new_archive(tmp_path)
    VIDEOS[0].path(archive / "archive").write_bytes(b"")  # all that P01 has
    VIDEOS[2].path(archive / "archive").unlink()
    with_proxies(archive)
    done = run(archive, *TARGETS)
    assert done.returncode == 0, said(done)
    assert set(stamps(archive)) == {"P02_101"}
    assert "P01_01\tnone" in (archive / "results/proxies/P01.tsv").read_text()
    assert "P02_102\tnone" in (archive / "results/proxies/P02.tsv").read_text()
    with_proxies(archive, participants={"exclude": ["P01"]})
    done = run(archive, "results/predictions/val.pt", "-n")
    assert done.returncode == 0, said(done)
    assert "P01.index.npz" not in said(done) and "proxy" not in jobs(done)


def test_copies_can_stand_on_another_disk_but_not_among_the_originals(new_archive, tmp_path):
    archive = new_archive(tmp_path)
    with_proxies(archive, proxy={"root": str(tmp_path / "scratch")})
    assert run(archive, INDEXES[0]).returncode == 0
    assert VIDEOS[0].path(tmp_path / "scratch").is_file()
    assert not (archive / "results/proxies/P01").exists()
    with_proxies(archive, proxy={"root": "archive"})
    done = run(archive, INDEXES[0])
    assert done.returncode != 0
    (line,) = errors(done)
    assert "archive/P01: holds the originals; copies need a folder of their own" in line


@pytest.mark.parametrize("proxy, words", [
    ({"heigth": 256}, "unknown key 'videos.proxy.heigth'; did you mean 'height'?"),
    ({"gop": 0}, "videos.proxy.gop is 0"), ({"crf": 60}, "videos.proxy.crf is 60"),
])  # fmt: skip
def test_a_wrong_key_of_the_section_is_named(proxy, words, copied):
    with_proxies(copied, proxy=proxy)
    done = run(copied, *INDEXES, "-n")
    assert done.returncode != 0 and words in said(done)
