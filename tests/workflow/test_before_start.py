"""What stops a training before any scan on the real DAG: the start check, the start weights."""

import hashlib
import io
import sys

import pytest
import torch
from mmaction.registry import MODELS

from support.archive import configure, errors, jobs, run, said
from support.checkout import ROOT, call
from support.fault_server import status
from support.small_runs import built

pytestmark = pytest.mark.slow

DEMO = "config/x3d_demo.py"
MODEL, CHECK = "results/model.pth", "results/start_check.txt"


def stored(state) -> tuple[str, bytes]:
    """A checkpoint's name, with its hash, and its bytes."""
    file = io.BytesIO()
    torch.save(state, file)
    content = file.getvalue()
    return f"x3d-{hashlib.sha256(content).hexdigest()[:8]}.pth", content


def test_the_start_check_stops_a_hopeless_training_and_is_a_target_of_its_own(archive):
    right = {"config": DEMO, "from_scratch": True, "heads": "pair"}
    configure(archive, train=right | {"options": {"model.cls_head.head.in_channels": 7}})
    done = run(archive, MODEL, "--quiet", "all", well=False)
    (line,) = errors(done)
    assert "a training step with these settings fails (RuntimeError: " in line
    ready = "archive: all 3 videos of the sheet are there"
    assert line in done.stderr and f"videos: {ready}" in done.stderr
    assert not (archive / "results/segments").exists() and not (archive / "results/scan").exists()
    assert "Traceback" in (archive / "results/logs/start_check.log.details").read_text()
    assert line in run(archive, CHECK, "--quiet", "all", well=False).stderr
    configure(archive, train=right)
    run(archive, CHECK)
    screen = (archive / CHECK).read_text()
    assert screen.startswith("Start check: nothing is wrong\n") and "error:" not in screen
    assert ready in screen


def test_a_missing_file_of_weights_is_no_file_to_come(archive):
    configure(archive, train={"config": DEMO, "load_from": "gone.pth"})
    (line,) = errors(run(archive, CHECK, well=False))
    assert "gone.pth" in line


def test_an_environment_whose_path_has_a_space_is_refused_with_the_way_out(archive, tmp_path):
    spaced = tmp_path / "with a space"
    spaced.symlink_to(sys.prefix)
    command = (spaced / "bin/python", "-m", "snakemake", MODEL, "--directory", archive)
    done = call(*command, "--cores", "1", "--configfile", archive / "config.yaml", well=False)
    assert "the path of this environment has a space" in done.stderr
    assert "`make install VENV=/a/path" in done.stderr


OTHER = stored({"conv.weight": torch.ones(1000)})[1]


@pytest.mark.parametrize("answer, words", [
    ((b"", status(404), status(404)), "put it at weights/127.0.0.1%3A{port}/other.pth"),
    ((OTHER,), "weights of another model: 0 of its 1 tensors fit"),
    ((OTHER[:2000],), "not weights that can be loaded safely (cut short, its end is missing)"),
], ids=["out of reach", "of another model", "cut"])  # fmt: skip
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
