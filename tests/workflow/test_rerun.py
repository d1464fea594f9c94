"""What runs again and what does not, counted on the real DAG."""

import shutil
import subprocess
import sys
import time

import psutil
import pytest

from epic100.minikitchen import write_video
from epic100.segments.segment_list import read_segments
from support.archive import VIDEOS, configure, errors, jobs, run, said, stop_decoder
from support.checkout import ROOT, run_snakemake

pytestmark = pytest.mark.slow


@pytest.fixture
def archive(new_archive, tmp_path):
    return new_archive(tmp_path)


@pytest.fixture
def cleaned(clean_archive, tmp_path):
    return clean_archive(tmp_path)


def test_a_replaced_video_scans_its_participant_again_and_no_other(cleaned):
    assert "Nothing to be done" in said(run(cleaned, "results/clean/pairs.tsv", "-n"))
    time.sleep(0.1)
    write_video(VIDEOS[1], VIDEOS[1].path(cleaned / "archive"), seed=2, damage="zeroed")
    done = run(cleaned, "results/clean/pairs.tsv")
    assert jobs(done) == {"scan": 1, "clean": 1}
    assert "P02_101\tdamaged" in (cleaned / "results/scan/P02.tsv").read_text()


def test_an_update_or_a_move_of_the_checkout_repeats_nothing(archive):
    for name in ("Snakefile", "config", "profiles", "rules", "workflow", "envs"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, archive / name)
    call = ("results/clean/pairs.tsv", "--configfile", "config.yaml", "--cores", "2")
    done = run_snakemake(*call, cwd=archive)
    assert done.returncode == 0, said(done)
    for path in archive.glob("[Scprwe]*/**/*"):
        if path.suffix in (".py", ".smk", ".tsv", ".yaml") and "results" not in path.parts:
            path.touch()  # as a fresh clone has it
    (archive / "Snakefile").touch()
    moved = archive.rename(archive.parent / "elsewhere")
    assert "Nothing to be done" in said(run_snakemake(*call, "-n", cwd=moved))


def test_a_missing_video_is_a_row_and_the_training_section_touches_no_scan(archive):
    VIDEOS[2].path(archive / "archive").unlink()
    assert run(archive, "results/clean/pairs.tsv").returncode == 0
    assert "P02_102\tmissing" in (archive / "results/scan/P02.tsv").read_text()
    dropped = (archive / "results/clean/dropped.tsv").read_text()
    assert "video missing" in dropped
    configure(archive, train={"epochs": 3, "seed": 5})
    assert jobs(run(archive, "results/model.pth", "-n")) == {"train": 1, "weights": 1}


def test_a_scan_that_dies_stops_no_other_and_alone_runs_again(archive):
    in_the_way = archive / "results/scan/cache/P02"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()  # the job of P02 wants a folder there, and dies
    done = run(archive, "results/clean/pairs.tsv", "--keep-going")
    assert done.returncode != 0
    assert (archive / "results/scan/P01.tsv").exists()
    assert not (archive / "results/scan/P02.tsv").exists()
    in_the_way.unlink()
    done = run(archive, "results/clean/pairs.tsv")
    assert done.returncode == 0, said(done)
    assert jobs(done) == {"scan": 1, "clean": 1}


def test_after_kill_9_the_same_command_goes_on_once_no_job_of_the_last_is_left(archive):
    words = [
        "results/scan/P01.tsv",
        "--directory",
        archive,
        "--configfile",
        archive / "config.yaml",
    ]
    command = [sys.executable, "-m", "snakemake", *words]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as killed:
        stop_decoder(VIDEOS[0].path(archive / "archive"))
        jobs_left = psutil.Process(killed.pid).children(recursive=True)
        killed.kill()
    try:
        done = run(archive, "results/scan/P01.tsv")
        assert done.returncode != 0
        assert "jobs of it are still active (scan.py, process " in said(done)
    finally:
        for process in jobs_left:
            process.kill()
    psutil.wait_procs(jobs_left)
    done = run(archive, "results/scan/P01.tsv")
    assert done.returncode == 0, said(done)
    assert "was killed; this one goes on" in said(done)
    assert not list((archive / ".snakemake/epic100-runs").iterdir())


def test_one_scan_is_done_again_on_demand(cleaned):
    (cleaned / "results/scan/P02.tsv").unlink()  # deleting does nothing while the target stands
    assert "Nothing to be done" in said(run(cleaned, "results/clean/pairs.tsv", "-n"))
    done = run(cleaned, "results/clean/pairs.tsv", "-R", "results/scan/P02.tsv")
    assert done.returncode == 0, said(done)
    assert jobs(done) == {"scan": 1, "clean": 1}


def test_a_participant_can_be_left_out_and_it_is_said(archive):
    configure(archive, participants={"exclude": ["P02"]})
    done = run(archive, "results/clean/pairs.tsv")
    assert done.returncode == 0, said(done)
    assert jobs(done) == {"annotate": 2, "scan": 1, "clean": 1}
    assert not (archive / "results/scan/P02.tsv").exists()
    dropped = (archive / "results/clean/dropped.tsv").read_text().splitlines()[1:]
    assert dropped and all("left out by the config" in line for line in dropped)
    configure(archive, participants={"exclude": ["P2"]})
    assert "participants.exclude names P2" in said(run(archive, "results/clean/pairs.tsv", "-n"))


def test_a_scan_table_of_another_participant_is_refused(cleaned):
    other = (cleaned / "results/scan/P02.tsv").read_text()
    (cleaned / "results/scan/P01.tsv").write_text(other)
    done = run(cleaned, "results/clean/pairs.tsv")
    (line,) = errors(done)
    assert "results/scan/P01.tsv: has a row of P02_101, a video of P02" in line


def test_a_participant_with_no_readable_video_is_said_loudly_and_the_dag_goes_on(archive):
    VIDEOS[0].path(archive / "archive").write_bytes(b"")
    done = run(archive, "results/clean/pairs.tsv")
    assert done.returncode == 0, said(done)
    assert "WARNING: P01: none of its 1 videos is readable" in said(done)


def test_a_video_whose_rate_is_not_the_sheets_is_re_timed_and_it_is_said(archive):
    sheet = archive / "sheet.tsv"
    sheet.write_text(sheet.read_text().replace("50.0\t8.0", "25.0\t8.0"))
    done = run(archive, "results/clean/pairs.tsv")
    assert done.returncode == 0, said(done)
    assert "P02_101: " in said(done)
    assert "re-timed, the file has 50.0000 fps, the sheet says 25.0000" in said(done)
    listed = read_segments(archive / "results/segments/train.txt").set_index("narration_id")
    kept = read_segments(archive / "results/clean/train.txt").set_index("narration_id")
    own = [name for name in kept.index if name.startswith("P02_101")]
    assert own
    for name in own:
        assert abs(kept.start[name] - 2 * listed.start[name]) <= 2


def test_a_quick_look_says_so_and_is_not_taken_for_a_full_scan(archive):
    (archive / "archive/P01/P01_77.MP4").touch()
    configure(archive, scan={"quick": True})
    done = run(archive, "results/scan/P01.tsv")
    assert done.returncode == 0, said(done)
    assert "P01_77.MP4: not in the video sheet, left alone" in said(done)
    assert "quick look" in (archive / "results/scan/P01.tsv").read_text()
    configure(archive)
    assert jobs(run(archive, "results/scan/P01.tsv")) == {"scan": 1}
    assert "quick look" not in (archive / "results/scan/P01.tsv").read_text()
