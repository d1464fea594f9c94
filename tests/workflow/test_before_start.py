"""What stops a run before any scan: the start check, start weights, slips of a new user, Ctrl-C."""

import hashlib
import os
import signal
import subprocess
import sys

import pytest
import torch
from mmaction.registry import MODELS

from support.archive import configure, errors, jobs, run, stop_decoder
from support.checkout import ROOT, call, run_snakemake, said
from support.crafted import saved
from support.fault_server import status
from support.small_runs import built

pytestmark = pytest.mark.slow

DEMO = "config/x3d_demo.py"
MODEL, CHECK = "results/model.pth", "results/start_check.txt"


def stored(state) -> tuple[str, bytes]:
    """The bytes of a checkpoint, and its file name, which has the hash of the bytes."""
    content = saved(state)
    return f"x3d-{hashlib.sha256(content).hexdigest()[:8]}.pth", content


def test_the_start_check_stops_a_hopeless_training_before_any_job(archive):
    wrong = {"model.cls_head.head.in_channels": 7}
    configure(archive, train={"config": DEMO, "from_scratch": True, "options": wrong})
    done = run(archive, MODEL, "--quiet", "all", well=False)
    (line,) = errors(done)
    assert "a training step with these settings fails (RuntimeError: " in line
    assert line in done.stderr
    assert not (archive / "results/segments").exists() and not (archive / "results/scan").exists()
    assert "Traceback" in (archive / "results/logs/start_check.log").read_text()


def test_an_environment_whose_path_has_a_space_is_refused_with_the_way_out(archive, tmp_path):
    spaced = tmp_path / "with a space"
    spaced.symlink_to(sys.prefix)
    command = (spaced / "bin/python", "-m", "snakemake", MODEL, "--directory", archive)
    done = call(*command, "--cores", "1", "--configfile", archive / "config.yaml", well=False)
    assert "the path of this environment has a space" in done.stderr
    assert "`make install VENV=/a/path" in done.stderr


OTHER = stored({"conv.weight": torch.ones(1000)})[1]


@pytest.mark.parametrize(
    "answer, words",
    [
        ((b"", status(404), status(404)), "put it at weights/127.0.0.1%3A{port}/other.pth"),
        ((OTHER,), "weights of another model: 0 of its 1 tensors fit"),
    ],
    ids=["out of reach", "of another model"],
)
def test_weights_that_cannot_be_fetched_or_do_not_fit_stop_the_run_before_any_scan(
    archive, server, answer, words
):
    configure(archive, train={"config": DEMO, "load_from": server.put("other.pth", *answer)})
    done = run(archive, MODEL, "--cores", "1", well=False)
    assert words.format(port=server.server_port) in said(done)
    assert not list(archive.glob("weights/**/*.pth")) and not (archive / "results/scan").exists()


def test_weights_are_fetched_once_and_a_file_put_by_hand_serves_if_it_is_right(
    archive, lab, server
):
    name, content = stored(MODELS.build(built(lab, config=str(ROOT / DEMO)).model).state_dict())
    configure(archive, train={"config": DEMO, "load_from": server.put(name, content)})
    place = f"weights/127.0.0.1%3A{server.server_port}/{name}"
    run(archive, place)
    assert (archive / place).read_bytes() == content
    assert f"weights: {place}: " in (archive / CHECK).read_text()
    done = run(archive, MODEL, "-n")
    assert "weights" not in jobs(done) and f"from {place}" in said(done)
    (archive / place).write_bytes(b"PK something else")
    assert f"expected {name[4:12]}, the hash in its name" in said(run(archive, MODEL, well=False))
    assert (archive / place).exists() and not (archive / "results/scan").exists()


# Snakemake alone takes these slips, or tells of them in its own words. None of them starts a job.
# Other slips are in tables of tests/cli/test_typed.py, settings/test_read.py,
# segments/test_annotations.py and attacks/test_names.py.
IN_A_FOLDER = {
    "two --configfile": (
        ["--configfile", "config.yaml", "--configfile", "good.yaml"],
        "--configfile is given more than once",
        "the last one only",
        "give all files behind one",
    ),
    "a section twice": (
        ["--configfile", "config.yaml", "twice.yaml"],
        "twice.yaml:3: key 'train' is there already, in line 1",
        "expected it once",
    ),
    "a rule with a typo": (["trian", "--configfile", "config.yaml"], "did you mean train?"),
    "a CSV that is not there": (
        ["--configfile", "config.yaml", "csv.yaml"],
        "none.csv: no such file",
        "`annotations: train:`",
        "`annotations: {download: true}`",
    ),
    "start weights that are not there": (
        ["results/model.pth", "--configfile", "config.yaml", "weights.yaml"],
        "none.pth: no such file",
        "`train: load_from:`",
        "correct the path",
    ),
}
FILES = {
    "good.yaml": "train: {epochs: 3}",
    "twice.yaml": "train: {epochs: 3}\nclean: {policy: video}\ntrain: {epochs: 4}",
    "csv.yaml": "annotations: {train: none.csv}",
    "weights.yaml": "train: {load_from: none.pth}",
}


@pytest.mark.parametrize("name", IN_A_FOLDER)
def test_a_slip_that_snakemake_takes_is_refused_before_any_job(archive, name):
    call, *words = IN_A_FOLDER[name]
    for file, text in FILES.items():
        (archive / file).write_text(text)
    done = run_snakemake("-n", "-s", str(ROOT / "Snakefile"), *call, cwd=archive, well=False)
    assert "Traceback (most" not in said(done) and "Job stats" not in said(done)
    for word in words:
        assert word in said(done)


def test_ctrl_c_in_a_scan_waits_for_no_decoder_and_is_one_line(archive):
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "results/scan/P01.tsv",
        "--directory",
        str(archive),
        "--configfile",
        str(archive / "config.yaml"),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as call:
        # Without Ctrl-C the decoder would be given up only after 60 s.
        stop_decoder(archive / "archive/P01/P01_01.MP4")
        os.killpg(call.pid, signal.SIGINT)
        text = call.communicate(timeout=45)[1]
    assert call.returncode != 0
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert lines == ["error: stopped by Ctrl-C; the same command goes on from what is done"]
    assert "Traceback" not in text
    assert not (archive / "results/scan/P01.tsv").exists()
    assert f"\n{lines[0]}\n" in (archive / "results/logs/scan/P01.log").read_text()
