"""Start weights on the real DAG: named in a dry run, refused before a scan, fetched once."""

import hashlib
import io

import pytest
import torch

from epic100.base.config import complete_config
from epic100.training.fetched import untrained_model
from epic100.training.settings import TrainSettings
from support.archive import configure, jobs, run, said
from support.checkout import ROOT
from support.fault_server import status

pytestmark = pytest.mark.slow

DEMO = "config/x3d_demo.py"


def stored(state):
    """A checkpoint of `state`, and a name with its hash."""
    file = io.BytesIO()
    torch.save(state, file)
    content = file.getvalue()
    return f"x3d-{hashlib.sha256(content).hexdigest()[:8]}.pth", content


@pytest.fixture(scope="module")
def weights():
    section = complete_config({
        "annotations": {"train": "a", "val": "b", "test": None}, "videos": {"root": "videos"},
        "train": {"config": str(ROOT / DEMO), "from_scratch": True},
    })["train"]  # fmt: skip
    settings = TrainSettings.from_section(section | {"load_from": None, "from_scratch": False})
    return stored(untrained_model(settings, (97, 300)).state_dict())


def test_a_dry_run_on_defaults_names_the_start_weights(new_archive, tmp_path):
    folder = new_archive(tmp_path)
    done = run(folder, "results/model.pth", "-n")
    assert done.returncode == 0, said(done)
    assert jobs(done)["weights"] == 1
    assert "Fetch the start weights https://download.openmmlab.com/mmaction/v1.0/" in said(done)
    assert "from weights/download.openmmlab.com/" in said(done)


def test_a_random_start_that_nobody_meant_is_refused_where_training_is_wanted(
    new_archive, tmp_path
):
    folder = new_archive(tmp_path)
    configure(folder, train={"load_from": None})
    done = run(folder, "all", "-n")
    assert done.returncode != 0
    assert "is a schedule for fine-tuning" in said(done) and "from_scratch: true" in said(done)
    done = run(folder, "results/clean/train.txt", "-n")
    assert done.returncode == 0, said(done)
    configure(folder, train={"config": DEMO, "from_scratch": True})
    done = run(folder, "results/model.pth", "-n")
    assert done.returncode == 0 and "weights" not in jobs(done)
    assert "from random weights" in said(done)


def test_weights_out_of_reach_stop_the_run_before_any_scan(new_archive, tmp_path, server):
    folder = new_archive(tmp_path)
    url = server.put("gone.pth", b"", status(404), status(404))
    configure(folder, train={"config": DEMO, "load_from": url})
    done = run(folder, "results/model.pth")
    assert done.returncode != 0
    place = f"weights/127.0.0.1%3A{server.server_port}/gone.pth"
    assert f"put it at {place}" in said(done) and not (folder / "results/scan").exists()


@pytest.mark.parametrize("cut, words", [
    (False, "weights of another model: 0 of its 1 tensors fit"),
    (True, "not weights that can be loaded safely (cut short, its end is missing)"),
])  # fmt: skip
def test_fetched_weights_that_are_cut_or_of_another_model_stop_the_run_before_any_scan(
    new_archive, tmp_path, server, cut, words
):
    folder, (_, content) = new_archive(tmp_path), stored({"conv.weight": torch.ones(1000)})
    content = content[: len(content) // 2] if cut else content
    configure(folder, train={"config": DEMO, "load_from": server.put("other.pth", content)})
    done = run(folder, "results/model.pth", "--cores", "1")
    assert done.returncode != 0 and words in said(done)
    assert not list(folder.glob("weights/**/*.pth")) and not (folder / "results/scan").exists()


def test_weights_are_fetched_once_and_a_file_put_by_hand_serves_if_it_is_right(
    new_archive, tmp_path, server, weights
):
    folder, (name, content) = new_archive(tmp_path), weights
    configure(folder, train={"config": DEMO, "load_from": server.put(name, content)})
    assert run(folder, "weights").returncode == 0
    file = folder / f"weights/127.0.0.1%3A{server.server_port}/{name}"
    assert file.read_bytes() == content
    done = run(folder, "results/model.pth", "-n")
    assert done.returncode == 0 and "weights" not in jobs(done) and f"from {file.parent.name}" in (
        said(done).replace("weights/", "")
    )  # fmt: skip
    file.write_bytes(b"PK something else")
    done = run(folder, "results/model.pth")
    assert done.returncode != 0
    assert f"expected {name[4:12]}, the hash in its name" in said(done)
    assert file.exists() and not (folder / "results/scan").exists()
