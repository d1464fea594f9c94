"""What stops a run before any scan: a failed trial, start weights, slips of a new user."""

import hashlib
import sys

import pytest
import torch
from mmaction.registry import MODELS

from support.archive import configure, jobs, run
from support.checkout import ROOT, call, run_snakemake, said
from support.crafted import saved
from support.failing_server import status
from support.small_runs import built

DEMO = "config/x3d_demo.py"
MODEL = "results/model.pth"


def test_a_trial_stops_hopeless_trainings_early(archive):
    wrong = {"model.cls_head.head.in_channels": 7}
    configure(archive, train={"config": DEMO, "from_scratch": True, "options": wrong})
    done = run(archive, MODEL, well=False)
    (line,) = [line for line in said(done).splitlines() if line.startswith("config: ")]
    assert "a training with these settings fails in its trial (RuntimeError: " in line
    assert line in done.stderr
    assert not (archive / "results/segments").exists() and not (archive / "results/scan").exists()
    assert "Traceback" in (archive / "results/logs/trial.log").read_text()


def test_an_environment_path_with_space_is_refused(archive, tmp_path):
    spaced = tmp_path / "with a space"
    spaced.symlink_to(sys.prefix)
    command = (spaced / "bin/python", "-m", "snakemake", MODEL, "--directory", archive)
    done = call(*command, "--cores", "1", "--configfile", archive / "config.yaml", well=False)
    assert "the path of this environment has a space" in done.stderr
    assert "`make install VENV=/a/path" in done.stderr


@pytest.mark.parametrize(
    "answers, message",
    [
        # The server refuses the first two requests of the file.
        pytest.param(
            (b"", status(404), status(404)),
            "put it at weights/127.0.0.1%3A{port}/other.pth",
            id="out of reach",
        ),
        pytest.param(
            (saved({"conv.weight": torch.ones(1000)}),),
            "weights of another model: 0 of its 1 tensors fit",
            id="of another model",
        ),
    ],
)
def test_wrong_start_weights_stop_runs_early(archive, server, answers, message):
    configure(archive, train={"config": DEMO, "load_from": server.put("other.pth", *answers)})
    done = run(archive, MODEL, "--cores", "1", well=False)
    assert message.format(port=server.server_port) in said(done)
    assert not list(archive.glob("weights/**/*.pth")) and not (archive / "results/scan").exists()


def test_start_weights_are_fetched_and_checked_once(archive, lab, server):
    content = saved(MODELS.build(built(lab, config=str(ROOT / DEMO)).model).state_dict())
    digest = hashlib.sha256(content).hexdigest()[:8]
    url = server.put(f"x3d-{digest}.pth", content)
    path = f"weights/127.0.0.1%3A{server.server_port}/x3d-{digest}.pth"
    configure(archive, train={"config": DEMO, "load_from": url})
    # The first run fetches the weights.
    run(archive, path)
    assert (archive / path).read_bytes() == content
    assert f"{path}: 264 of 266 tensors" in (archive / "results/logs/trial.log").read_text()
    # The file is there, so the next run has no job for it.
    done = run(archive, MODEL, "-n")
    assert "weights" not in jobs(done) and f"from {path}" in said(done)
    (archive / path).write_bytes(b"PK something else")
    assert f"expected {digest}, the hash in its name" in said(run(archive, MODEL, well=False))
    # A file that may be the user's own is not removed. The run ended before any scan.
    assert (archive / path).exists() and not (archive / "results/scan").exists()


# Without this workflow, Snakemake accepts these calls, or refuses them in words of its own. More
# mistakes are in tests/cli/test_program.py, settings/test_read.py, data/test_annotations.py and
# attacks/test_texts.py.
@pytest.mark.parametrize(
    "config, words, messages",
    [
        pytest.param(
            "train: {epochs: 3}",
            ["--configfile", "config.yaml", "--configfile", "mine.yaml"],
            ["--configfile is given more than once", "the last one only", "all files behind one"],
            id="--configfile twice",
        ),
        pytest.param(
            "train: {epochs: 3}\nclean: {policy: video}\ntrain: {epochs: 4}",
            ["--configfile", "config.yaml", "mine.yaml"],
            ["mine.yaml: ", "line 3: key 'train' is there twice; join the two"],
            id="section twice",
        ),
        pytest.param(
            "{}",
            ["trian", "--configfile", "config.yaml"],
            ["did you mean train?"],
            id="unknown rule",
        ),
        pytest.param(
            "annotations: {train: none.csv}",
            ["--configfile", "config.yaml", "mine.yaml"],
            ["none.csv: no such file", "`annotations: train:`", "`annotations: {download: true}`"],
            id="missing CSV",
        ),
        pytest.param(
            "train: {load_from: none.pth}",
            ["results/model.pth", "--configfile", "config.yaml", "mine.yaml"],
            ["none.pth: no such file", "`train: load_from:`", "correct the path"],
            id="missing start weights",
        ),
    ],
)
def test_a_mistaken_call_is_refused_early(archive, config, words, messages):
    (archive / "mine.yaml").write_text(config)
    done = run_snakemake("-n", "-s", str(ROOT / "Snakefile"), *words, cwd=archive, well=False)
    assert "Traceback (most" not in said(done) and "Job stats" not in said(done)
    assert [message for message in messages if message not in said(done)] == []
