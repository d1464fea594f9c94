"""What stops a training before any scan on the real DAG: the start check, the start weights."""

import hashlib
import io

import pytest
import torch

from epic100.settings import TrainSettings
from epic100.training.fetched import untrained_model
from support.archive import configure, errors, jobs, run, said
from support.checkout import ROOT
from support.fault_server import status

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
    configure(folder, train=right | {"options": {"model.cls_head.num_classes": 7}})
    done = run(folder, MODEL)
    assert done.returncode != 0
    (line,) = errors(done)
    assert "the head has 7 outputs" in line and "expected 5 outputs" in line
    ready = "archive: all 3 videos of the sheet are there"
    assert f"ready   videos      {ready}" in said(done)
    assert not (folder / "results/segments").exists() and not (folder / "results/scan").exists()
    configure(folder, train=right)
    done = run(folder, "results/start_check.txt")
    assert done.returncode == 0, said(done)
    screen = (folder / "results/start_check.txt").read_text()
    assert screen.startswith("Start check: nothing is wrong\n") and "error:" not in screen
    assert ready in screen


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


def test_weights_are_fetched_once_and_a_file_put_by_hand_serves_if_it_is_right(folder, server):
    settings = TrainSettings(config=str(ROOT / DEMO), load_from=None)
    name, content = stored(untrained_model(settings, (97, 300)).state_dict())
    configure(folder, train={"config": DEMO, "load_from": server.put(name, content)})
    done = run(folder, "weights")
    assert done.returncode == 0, said(done)
    place = f"weights/127.0.0.1%3A{server.server_port}/{name}"
    assert (folder / place).read_bytes() == content
    done = run(folder, MODEL, "-n")
    assert done.returncode == 0 and "weights" not in jobs(done) and f"from {place}" in said(done)
    (folder / place).write_bytes(b"PK something else")
    done = run(folder, MODEL)
    assert done.returncode != 0
    assert f"expected {name[4:12]}, the hash in its name" in said(done)
    assert (folder / place).exists() and not (folder / "results/scan").exists()
