"""What stops a training before any scan on the real DAG: the start check, the start weights."""

import hashlib
import io

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope

from support.archive import configure, errors, jobs, run, said
from support.checkout import ROOT
from support.fault_server import status
from support.small_runs import built

pytestmark = pytest.mark.slow

DEMO = "config/x3d_demo.py"
MODEL = "results/model.pth"


@pytest.fixture
def folder(new_archive, tmp_path):
    return new_archive(tmp_path)


def stored(state) -> tuple[str, bytes]:
    """A checkpoint's name, with its hash, and its bytes."""
    file = io.BytesIO()
    torch.save(state, file)
    content = file.getvalue()
    return f"x3d-{hashlib.sha256(content).hexdigest()[:8]}.pth", content


def test_the_start_check_stops_a_hopeless_training_and_is_a_target_of_its_own(folder):
    right = {"config": DEMO, "from_scratch": True, "heads": "pair"}
    configure(folder, train=right | {"options": {"model.cls_head.head.in_channels": 7}})
    done = run(folder, MODEL, "--quiet", "all")
    assert done.returncode != 0
    (line,) = errors(done)
    assert "a training step with these settings fails (RuntimeError: " in line
    ready = "archive: all 3 videos of the sheet are there"
    assert line in done.stderr and f"videos: {ready}" in done.stderr
    assert not (folder / "results/segments").exists() and not (folder / "results/scan").exists()
    assert "Traceback" in (folder / "results/logs/start_check.log.details").read_text()
    done = run(folder, "results/start_check.txt", "--quiet", "all")
    assert done.returncode != 0 and line in done.stderr
    configure(folder, train=right)
    done = run(folder, "results/start_check.txt")
    assert done.returncode == 0, said(done)
    screen = (folder / "results/start_check.txt").read_text()
    assert screen.startswith("Start check: nothing is wrong\n") and "error:" not in screen
    assert ready in screen


def test_a_missing_file_of_weights_is_no_file_to_come(folder):
    configure(folder, train={"config": DEMO, "load_from": "gone.pth"})
    done = run(folder, "results/start_check.txt")
    (line,) = errors(done)
    assert done.returncode != 0 and "gone.pth" in line


def test_weights_out_of_reach_stop_the_run_before_any_scan(folder, server):
    url = server.put("gone.pth", b"", status(404), status(404))
    configure(folder, train={"config": DEMO, "load_from": url})
    done = run(folder, MODEL)
    assert done.returncode != 0
    place = f"weights/127.0.0.1%3A{server.server_port}/gone.pth"
    assert f"put it at {place}" in said(done) and not (folder / "results/scan").exists()


@pytest.mark.parametrize("length, words", [
    (None, "weights of another model: 0 of its 1 tensors fit"),
    (2000, "not weights that can be loaded safely (cut short, its end is missing)"),
])  # fmt: skip
def test_fetched_weights_that_are_cut_or_of_another_model_stop_the_run_before_any_scan(
    folder, server, length, words
):
    _, content = stored({"conv.weight": torch.ones(1000)})
    url = server.put("other.pth", content[:length])
    configure(folder, train={"config": DEMO, "load_from": url})
    done = run(folder, MODEL, "--cores", "1")
    assert done.returncode != 0 and words in said(done)
    assert not list(folder.glob("weights/**/*.pth")) and not (folder / "results/scan").exists()


def test_weights_are_fetched_once_and_a_file_put_by_hand_serves_if_it_is_right(folder, lab, server):
    init_default_scope("mmaction")
    name, content = stored(MODELS.build(built(lab, config=str(ROOT / DEMO)).model).state_dict())
    configure(folder, train={"config": DEMO, "load_from": server.put(name, content)})
    place = f"weights/127.0.0.1%3A{server.server_port}/{name}"
    done = run(folder, place)
    assert done.returncode == 0, said(done)
    assert (folder / place).read_bytes() == content
    assert f"weights: {place}: " in (folder / "results/start_check.txt").read_text()
    done = run(folder, MODEL, "-n")
    assert done.returncode == 0 and "weights" not in jobs(done) and f"from {place}" in said(done)
    (folder / place).write_bytes(b"PK something else")
    done = run(folder, MODEL)
    assert done.returncode != 0
    assert f"expected {name[4:12]}, the hash in its name" in said(done)
    assert (folder / place).exists() and not (folder / "results/scan").exists()
