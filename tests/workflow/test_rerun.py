"""What runs again and what does not, counted on the real DAG."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest

from epic100.minikitchen import write_video
from epic100.minikitchen.damage import zero_block
from support.archive import VIDEOS, configure, jobs, run, said, stop_decoder
from support.checkout import ROOT, call, run_snakemake

pytestmark = pytest.mark.slow

PAIRS, TABLE = "results/clean/pairs.tsv", "results/scan/P01.tsv"
# The start check would refuse this training.
HOPELESS = {
    "config": "config/x3d_demo.py",
    "from_scratch": True,
    "options": {"model.cls_head.head.num_classes": 7},
}


def damage_a_video(folder):
    write_video(VIDEOS[1], VIDEOS[1].path(folder / "archive"), seed=2, damage="zeroed")


def remove_a_table(folder):
    (folder / "results/scan/P02.tsv").unlink()


def remove_a_participant(folder):
    shutil.rmtree(folder / "archive/P02")


@pytest.mark.parametrize(
    "change, call, planned",
    [
        (damage_a_video, [PAIRS], {"scan": 1, "clean": 1}),
        # Deleting a table does nothing while the target stands.
        (remove_a_table, [PAIRS], {}),
        (remove_a_table, [PAIRS, "-R", "results/scan/P02.tsv"], {"scan": 1, "clean": 1}),
        ({"scan": {"quick": True}}, [PAIRS], {"scan": 2, "clean": 1}),
        ({"participants": {"exclude": ["P01"]}}, [PAIRS], {"clean": 1}),
        (remove_a_participant, [PAIRS], {"clean": 1}),
        ({"train": {"epochs": 3, "seed": 5}}, ["results/model.pth"], {"train": 1, "weights": 1}),
        # This is a fault only for those who train.
        ({"train": {"load_from": None}}, [PAIRS], {}),
    ],
)
def test_a_change_repeats_what_depends_on_it_and_nothing_else(cleaned, change, call, planned):
    configure(cleaned, **change) if isinstance(change, dict) else change(cleaned)
    done = run(cleaned, *call, "-n")
    assert planned or "Nothing to be done" in said(done)
    assert not planned or jobs(done) == planned


def test_a_moved_folder_and_a_new_checkout_repeat_nothing_unless_it_ships_another_sheet(
    archive, tmp_path_factory
):
    def by_checkout(sheet, folder, *words):
        """Call a checkout that was never used, with this sheet in it, in a working folder."""
        checkout = tmp_path_factory.mktemp("checkout")
        parts = ("Snakefile", "config", "profiles", "rules", "workflow", "envs")
        call("cp", "-r", *parts, checkout)
        (checkout / "config/sheet.tsv").write_text(sheet)
        return run_snakemake(
            PAIRS,
            "--directory",
            str(folder),
            "--configfile",
            str(folder / "config.yaml"),
            *words,
            cwd=checkout,
        )

    sheet = (archive / "sheet.tsv").read_text()
    configure(archive, videos={"sheet": "config/sheet.tsv", "root": "archive"})
    by_checkout(sheet, archive)
    moved = archive.rename(archive.parent / "elsewhere")
    assert "Nothing to be done" in said(by_checkout(sheet, moved, "-n"))
    again = by_checkout(sheet.replace("8.008", "8.009"), moved, "-n")
    assert jobs(again) == {"annotate": 2, "scan": 1, "clean": 1}


def test_other_layouts_repeat_nothing_and_a_forced_scan_decodes_all_files_in_them(cleaned):
    root, table = cleaned / "archive", "results/scan/P02.tsv"
    # The source's download has this layout.
    (root / "P01/videos").mkdir()
    VIDEOS[0].path(root).rename(root / "P01/videos/P01_01.mp4")
    flat = VIDEOS[1].path(root).rename(root / "P02_101.MP4")
    state = flat.stat()
    zero_block(flat, 0.5, 500)
    os.utime(flat, ns=(state.st_atime_ns, state.st_mtime_ns))
    done = run(cleaned, PAIRS, "--logger", "epic100")
    assert "Nothing to be done" in said(done) and "jobs done" not in said(done)
    assert "2 of them decoded now" in said(run(cleaned, table, "-R", table))
    assert "P02_101\tdamaged" in (cleaned / table).read_text()


def test_a_pattern_repeats_nothing_and_one_film_under_two_ids_is_on_the_screen(cleaned):
    root = cleaned / "archive"
    for video in VIDEOS:
        video.path(root).rename(root / f"{video.video_id}_small.mp4")
    pattern = {"sheet": "sheet.tsv", "root": "archive", "pattern": "{video}_small.MP4"}
    configure(cleaned, videos=pattern)
    assert "Nothing to be done" in said(run(cleaned, PAIRS, "-n"))
    shutil.copyfile(root / "P01_01_small.mp4", root / "P02_102_small.mp4")
    done = run(cleaned, PAIRS, "-n")
    twins = "archive/P01_01_small.mp4 and archive/P02_102_small.mp4"
    assert f"of one size to the byte: {twins}: is it one film under two ids?" in said(done)
    assert jobs(done) == {"scan": 1, "clean": 1}


def test_what_is_wrong_stops_its_own_rule_and_is_said_and_the_same_command_makes_what_lacks(
    archive,
):
    in_the_way = archive / "results/scan/cache/P02"
    in_the_way.parent.mkdir(parents=True)
    # The job of P02 wants a folder there, so it dies.
    in_the_way.touch()
    VIDEOS[0].path(archive / "archive").write_bytes(b"")
    VIDEOS[2].path(archive / "archive").unlink()
    configure(archive, train=HOPELESS)
    done = run(archive, PAIRS, "--keep-going", "--logger", "epic100", well=False)
    lines = said(done).splitlines()
    # The fault is told once, at the end, with its log.
    (place,) = (place for place, line in enumerate(lines) if line.startswith("FAILED scan P02: "))
    assert "File exists" in lines[place]
    assert lines[place + 1] == f"  log: {archive}/results/logs/scan/P02.log"
    assert lines[-1].startswith("Next: fix this and give the same command") and len(lines) <= 26
    assert "RuleException" not in said(done) and "Traceback" not in said(done)
    (log,) = (archive / ".snakemake/log").glob("*.snakemake.log")
    for word in ("Scan of P02: ", "Finished jobid", "Error in rule scan", "RuleException"):
        assert word in log.read_text()
    results = archive / "results"
    assert (results / "segments/val.txt").exists() and (results / "scan/P01.tsv").exists()
    assert not (results / "scan/P02.tsv").exists()
    in_the_way.unlink()
    done = run(archive, PAIRS)
    assert jobs(done) == {"scan": 1, "clean": 1}
    assert "WARNING: P01: none of its 1 videos is readable" in said(done)
    # The start check is for runs that train.
    assert "Start check" not in said(done)
    assert "P02_102\tmissing" in (results / "scan/P02.tsv").read_text()
    assert "video missing" in (results / "clean/dropped.tsv").read_text()


@contextmanager
def halted_scan(folder, *options):
    """A call of the workflow whose decoder is halted in its only scan."""
    command = [sys.executable, "-m", "snakemake", TABLE, "--directory", folder, *options]
    command += ["--configfile", folder / "config.yaml"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        stop_decoder(VIDEOS[0].path(folder / "archive"))
        yield process


def test_after_kill_9_the_same_command_goes_on_once_no_job_of_the_last_is_left(archive):
    with halted_scan(archive) as killed:
        jobs_left = psutil.Process(killed.pid).children(recursive=True)
        killed.kill()
    try:
        done = run(archive, TABLE, well=False)
        assert "jobs of it are still active (scan.py, process " in said(done)
    finally:
        for process in jobs_left:
            process.kill()
    psutil.wait_procs(jobs_left)
    assert "was killed; this one goes on" in said(run(archive, TABLE))
    assert not list((archive / ".snakemake").glob("epic100-run*"))
    assert "P01_01\tok" in (archive / TABLE).read_text()


def test_a_job_that_fails_late_removes_no_file_of_a_newer_one(archive):
    with halted_scan(archive, "--retries", "0") as process:
        (archive / TABLE).write_text("of the newer job\n")
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    assert process.returncode != 0
    assert (archive / TABLE).read_text() == "of the newer job\n"
