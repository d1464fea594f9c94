"""An archive of which some videos are there: who gets a job, and what is reported."""

import pytest

from epic100.download.annotations import NAMES
from epic100.video.sheet import read_sheet
from support.archive import VIDEOS, configure, errors, jobs, run, said
from support.checkout import ROOT, run_snakemake

pytestmark = pytest.mark.slow

OFFICIAL = read_sheet(ROOT / "config/videos.tsv")
P04 = [video for video in OFFICIAL if video.participant_id == "P04"][:9]
P22 = [video for video in OFFICIAL if video.participant_id == "P22"][:4]


@pytest.fixture
def folder(tmp_path):
    """A folder with the official files' names, and no content: enough to plan."""
    (tmp_path / "annotations").mkdir()
    for name in NAMES.values():
        (tmp_path / "annotations" / name).touch()
    return tmp_path


def plan(folder, target, *config):
    done = run_snakemake(target, "-n", "--quiet", "rules", "--directory", str(folder),
                         *(("--config", *config) if config else ()))  # fmt: skip
    assert done.returncode == 0, said(done)
    return done


def touch(folder, videos):
    for video in videos:
        path = video.path(folder / "videos")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_thirteen_of_700_videos_are_two_scans_and_few_lines(folder):
    touch(folder, [*P04, *P22])
    done = plan(folder, "results/clean/train.txt")
    assert jobs(done) == {"annotate": 3, "scan": 2, "clean": 1}
    text = said(done)
    assert "videos: 13 of the 700 videos of the sheet are there" in text
    assert "none of P01 P02 P03" in text
    assert len([line for line in text.splitlines() if "of the 700" in line or " of P" in line]) <= 4
    assert jobs(plan(folder, "results/videos.ok"))["verify_videos"] == 37


def test_the_plan_for_thirteen_videos_fits_on_a_screen(folder):
    touch(folder, [*P04, *P22])
    done = run_snakemake("results/clean/train.txt", "-n", "--logger", "epic100", "--directory",
                         str(folder))  # fmt: skip
    lines = said(done).splitlines()
    assert len(lines) <= 40 and "Scan of P22" in said(done)
    assert sum(line.startswith("Reason: ") for line in lines) == 6
    assert sum(line == "Job stats:" for line in lines) == 1


def test_without_any_video_all_is_planned_and_the_folder_is_called_missing(folder):
    done = plan(folder, "results/clean/train.txt")
    assert jobs(done) == {"annotate": 3, "scan": 37, "clean": 1}
    assert "videos: none of the 700 videos of the sheet are there" in said(done)
    assert "videos: no such folder; expected the one with {participant_id}/{video_id}" in said(done)
    done = plan(folder, "results/clean/train.txt", "participants={include: [P04, P22, P01]}")
    assert jobs(done)["scan"] == 3


def test_a_run_without_its_folder_of_videos_does_not_start(new_archive, tmp_path):
    archive = new_archive(tmp_path)
    (archive / "archive").rename(archive / "elsewhere")
    done = run(archive, "results/clean/pairs.tsv")
    assert done.returncode != 0
    assert "archive: no such folder; expected the one with" in said(done)
    assert not (archive / "results/scan/P01.tsv").exists()


def test_a_participant_without_a_video_has_no_job_and_its_segments_are_missing(
    new_archive, tmp_path
):
    archive = new_archive(tmp_path)
    for video in VIDEOS[1:]:
        video.path(archive / "archive").unlink()
    done = run(archive, "results/clean/pairs.tsv")
    assert done.returncode == 0, errors(done)
    assert jobs(done) == {"annotate": 2, "scan": 1, "clean": 1}
    rows = (archive / "results/clean/dropped.tsv").read_text().splitlines()[1:]
    assert rows and all(row.startswith("P02_") and row.endswith("\tvideo missing") for row in rows)
    configure(archive, participants={"include": ["P01"]})
    assert jobs(run(archive, "results/clean/pairs.tsv", "-n")) == {"clean": 1}
