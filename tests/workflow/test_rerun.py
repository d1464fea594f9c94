"""Which jobs of the real DAG run again after a change, a fault, a signal or a kill."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import psutil
import pytest

from epic100.minikitchen import write_video
from epic100.minikitchen.damage import zero_block
from epic100.model.model_file import TrainedModel, save_model
from epic100.settings.data import SCAN_VERSION
from support.archive import VIDEOS, configure, jobs, run, said, stop_decoder
from support.checkout import ROOT, call, run_snakemake

pytestmark = pytest.mark.slow

PAIRS = "results/clean/pairs.tsv"
SCAN_OF_P01, SCAN_OF_P02 = "results/scan/P01.tsv", "results/scan/P02.tsv"
# No job is planned.
NOTHING = {}


def damage_a_video(folder):
    """Film a video of P02 again, with damage."""
    write_video(VIDEOS[1], VIDEOS[1].path(folder / "archive"), seed=2, damage="zeroed")


def remove_the_scan_of_p02(folder):
    """Remove the scan table of P02."""
    (folder / SCAN_OF_P02).unlink()


def scan_by_an_earlier_version(folder):
    """Let Snakemake's records of the scans have no version, as those of earlier versions."""
    for record in (folder / ".snakemake/metadata").iterdir():
        content = json.loads(record.read_text())
        if content["rule"] == "scan":
            content["params"] = [p for p in content["params"] if p != repr(SCAN_VERSION)]
            record.write_text(json.dumps(content))


def rename_videos_by_a_pattern(folder):
    """Rename all videos, and set the pattern of the new names."""
    root = folder / "archive"
    for video in VIDEOS:
        video.path(root).rename(root / f"{video.video_id}_small.mp4")
    pattern = {"sheet": "sheet.tsv", "root": "archive", "pattern": "{video}_small.MP4"}
    configure(folder, videos=pattern)


@pytest.mark.parametrize(
    "change, targets, planned",
    [
        pytest.param(damage_a_video, [PAIRS], {"scan": 1, "clean": 1}, id="other video"),
        # Snakemake makes a missing file anew only if a target needs it.
        pytest.param(remove_the_scan_of_p02, [PAIRS], NOTHING, id="no scan table"),
        pytest.param(
            remove_the_scan_of_p02,
            [PAIRS, "-R", SCAN_OF_P02],
            {"scan": 1, "clean": 1},
            id="no scan table, asked for",
        ),
        pytest.param(
            scan_by_an_earlier_version, [PAIRS], {"scan": 2, "clean": 1}, id="scanned before"
        ),
        pytest.param(
            partial(configure, scan={"stall_seconds": 50}),
            [PAIRS],
            {"scan": 2, "clean": 1},
            id="setting of two scans",
        ),
        pytest.param(
            partial(configure, participants={"exclude": ["P01"]}),
            [PAIRS],
            {"clean": 1},
            id="participant left out",
        ),
        pytest.param(
            lambda folder: shutil.rmtree(folder / "archive/P02"),
            [PAIRS],
            {"clean": 1},
            id="no videos of P02",
        ),
        pytest.param(
            partial(configure, train={"epochs": 3, "seed": 5}),
            ["results/model.pth"],
            {"train": 1, "weights": 1},
            id="settings of the training",
        ),
        # Without start weights, only a call that trains is refused.
        pytest.param(
            partial(configure, train={"load_from": None}), [PAIRS], NOTHING, id="no start weights"
        ),
        pytest.param(rename_videos_by_a_pattern, [PAIRS], NOTHING, id="pattern of file names"),
    ],
)
def test_changes_repeat_only_jobs_that_depend_on_them(cleaned, change, targets, planned):
    change(cleaned)
    done = run(cleaned, *targets, "-n")
    if planned == NOTHING:
        assert "Nothing to be done" in said(done)
    else:
        assert jobs(done) == planned


def test_checkouts_and_moves_repeat_nothing(archive, tmp_path_factory):
    def by_new_checkout(sheet, folder, *words):
        """Run a copy of this checkout, with this text as its sheet, in a working folder."""
        checkout = tmp_path_factory.mktemp("checkout")
        parts = ("Snakefile", "config", "profiles", "rules", "workflow", "envs")
        call("cp", "-r", *parts, checkout)
        (checkout / "config/sheet.tsv").write_text(sheet)
        places = ("--directory", str(folder), "--configfile", str(folder / "config.yaml"))
        return run_snakemake(PAIRS, *places, *words, cwd=checkout)

    sheet = (archive / "sheet.tsv").read_text()
    configure(archive, videos={"sheet": "config/sheet.tsv", "root": "archive"})
    by_new_checkout(sheet, archive)
    moved = archive.rename(archive.parent / "elsewhere")
    assert "Nothing to be done" in said(by_new_checkout(sheet, moved, "-n"))
    # The duration of P01_01 differs, which has one of the two scans; both splits read the sheet.
    again = by_new_checkout(sheet.replace("8.008", "8.009"), moved, "-n")
    assert jobs(again) == {"annotate": 2, "scan": 1, "clean": 1}


def test_only_a_forced_scan_decodes_other_layouts(cleaned):
    root = cleaned / "archive"
    # The download of the University of Bristol has a folder `videos` for each participant.
    (root / "P01/videos").mkdir()
    VIDEOS[0].path(root).rename(root / "P01/videos/P01_01.mp4")
    flat = VIDEOS[1].path(root).rename(root / "P02_101.MP4")
    # A file that is damaged, but has its size and time, is only noticed if it is decoded again.
    state = flat.stat()
    zero_block(flat, 0.5, 500)
    os.utime(flat, ns=(state.st_atime_ns, state.st_mtime_ns))
    done = run(cleaned, PAIRS, "--logger", "epic100")
    assert "Nothing to be done" in said(done) and "jobs done" not in said(done)
    assert "2 of them decoded now" in said(run(cleaned, SCAN_OF_P02, "-R", SCAN_OF_P02))
    assert "P02_101\tdamaged" in (cleaned / SCAN_OF_P02).read_text()


def test_after_failure_only_missing_files_are_made(archive):
    file_in_the_way = archive / "results/scan/cache/P02"
    file_in_the_way.parent.mkdir(parents=True)
    # The job of P02 makes a folder of this name, so it fails.
    file_in_the_way.touch()
    VIDEOS[0].path(archive / "archive").write_bytes(b"")
    # This is the only video of val, so the config has to say that it is meant.
    VIDEOS[2].path(archive / "archive").unlink()
    configure(archive, videos={"sheet": "sheet.tsv", "root": "archive", "subset": True})
    failed = said(run(archive, PAIRS, "--keep-going", "--logger", "epic100", well=False))
    log_of_job = f"  log: {archive}/results/logs/scan/P02.log"
    assert re.findall(r"FAILED scan P02: .*File exists.*\n(.*)", failed) == [log_of_job]
    # The screen is short, and Snakemake's own log has everything.
    assert not re.search("RuleException|Traceback", failed) and len(failed.splitlines()) <= 26
    (log,) = (archive / ".snakemake/log").glob("*.snakemake.log")
    assert "Finished jobid" in log.read_text() and "RuleException" in log.read_text()
    assert (archive / SCAN_OF_P01).exists() and not (archive / SCAN_OF_P02).exists()
    file_in_the_way.unlink()
    done = run(archive, PAIRS)
    assert jobs(done) == {"scan": 1, "clean": 1}
    assert "WARNING: P01: none of its 1 videos is readable" in said(done)
    # A trial is for runs that train.
    assert "Trial:" not in said(done)
    assert "P02_102\tmissing" in (archive / SCAN_OF_P02).read_text()
    assert "video missing" in (archive / "results/clean/dropped.tsv").read_text()


@contextmanager
def halted_scan(folder, *options):
    """A call of the workflow for one scan, whose decoder is halted; its screen is `screen.txt`."""
    command = [sys.executable, "-m", "snakemake", SCAN_OF_P01, "--directory", folder, *options]
    command += ["--configfile", folder / "config.yaml"]
    # Snakemake would hang at a pipe that is closed before its end.
    with (folder / "screen.txt").open("w") as screen:
        process = subprocess.Popen(command, cwd=ROOT, stderr=screen, start_new_session=True)
    with process:
        stop_decoder(VIDEOS[0].path(folder / "archive"))
        yield process


@pytest.mark.thorough
def test_ctrl_c_ends_a_scan_at_once(archive):
    with halted_scan(archive) as process:
        os.killpg(process.pid, signal.SIGINT)
        # Without Ctrl-C the decoder would be given up only after 60 s.
        assert process.wait(timeout=45) != 0
    text = (archive / "screen.txt").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert line == "error: stopped by Ctrl-C; the same command goes on from what is done"
    assert "Traceback" not in text
    assert not (archive / SCAN_OF_P01).exists()
    assert f"\n{line}\n" in (archive / "results/logs/scan/P01.log").read_text()


def kill_all(processes):
    """Kill processes, some of which may end by themselves when another is killed."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_after_kill_9_the_same_command_resumes(archive):
    with halted_scan(archive) as killed:
        jobs_left = psutil.Process(killed.pid).children(recursive=True)
        killed.kill()
    try:
        run(archive, SCAN_OF_P01)
    finally:
        kill_all(jobs_left)
    assert not list((archive / ".snakemake").glob("locks/*"))
    assert "P01_01\tok" in (archive / SCAN_OF_P01).read_text()


def test_a_late_failing_job_keeps_newer_files(archive):
    with halted_scan(archive) as process:
        (archive / SCAN_OF_P01).write_text("of the newer job\n")
        kill_all(psutil.Process(process.pid).children(recursive=True))
    assert process.returncode != 0
    assert (archive / SCAN_OF_P01).read_text() == "of the newer job\n"


CSV = "csv/EPIC_100_{}.csv".format
VERB_CLASSES = CSV("verb_classes")
FIGURES = ["results/metrics.json", "results/figures/results/per_class.tsv"]


@pytest.fixture
def figures_made(cleaned):
    """The cleaned archive with a list of classes, and with records of figures that are made."""
    (cleaned / VERB_CLASSES).write_text("id,key\n" + "".join(f"{n},verb{n}\n" for n in range(97)))
    model = {"state_dict": {}, "config": {}, "trained_on": {}, "pairs": [(0, 1, 1)]}
    save_model(TrainedModel(num_verbs=97, num_nouns=300, **model), cleaned / "model.pth")
    configure(cleaned, predict={"model": str(cleaned / "model.pth")})
    for name in ("predictions/val.pt", "metrics.json", "summary.txt"):
        path = cleaned / "results" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    folder = cleaned / "results/figures/results"
    folder.mkdir(parents=True)
    for name in ("examples.json", "per_class.tsv"):
        (folder / name).touch()
    # Snakemake records the parameters of what it touches.
    run(cleaned, *FIGURES, "--touch", "-R", "evaluate", "figures_results")
    return cleaned


@pytest.mark.parametrize(
    "file, planned",
    [
        (CSV("train"), {"annotate"}),
        ("sheet.tsv", {"annotate", "clean"}),
        (CSV("validation"), {"annotate", "evaluate", "figures_results"}),
        (CSV("tail_verbs"), {"evaluate"}),
        (VERB_CLASSES, {"figures_results"}),
    ],
)
def test_changed_older_inputs_are_read_again(figures_made, file, planned):
    assert "Nothing to be done" in said(run(figures_made, PAIRS, *FIGURES, "-n"))
    path = figures_made / file
    state = path.stat()
    # A line break becomes two characters, as some editors write them.
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns - 10**15))
    done = run(figures_made, PAIRS, *FIGURES, "-n")
    assert planned <= set(jobs(done))
