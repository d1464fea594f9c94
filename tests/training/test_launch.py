"""Trainings in several real processes over gloo, started by torchrun."""

import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.base.processes import PROCESS, Placement
from epic100.model.model_file import load_model
from epic100.training.train import train, train_here
from support.checkout import ROOT
from support.small_runs import (
    copy_results,
    end_of,
    job,
    run,
    said,
    same,
    settings,
    signal_at,
    start,
)

pytestmark = pytest.mark.slow

# With these options, several processes learn the same as one: BatchNorm keeps its statistics, and
# no Adam makes large differences from the rounding of tiny gradients.
PLAIN = {
    "model.backbone.norm_eval": True,
    "optim_wrapper.optimizer": {"_delete_": True, "type": "SGD", "lr": 0.05, "momentum": 0.9},
    "param_scheduler": [],
}
# It saves after each batch.
OFTEN = {"default_hooks.checkpoint.seconds": 0.0}
MODULES = {"folder": str(ROOT / "tests"), "imports": ["support.small_runs"]}


def train_in_two(lab, results, **chosen):
    """Train with the modules of the tests, as the rule does."""
    train(settings(**chosen), modules=MODULES, **job(lab, results))


def ranks() -> list[psutil.Process]:
    """List the processes that train, of any launcher of these tests."""
    found = []
    for process in psutil.Process().children(recursive=True):
        # Some may end just now.
        with suppress(psutil.Error):
            words = process.cmdline()
            if PROCESS in words and "torch.distributed.run" not in words:
                found.append(process)
    return found


SHORT = {"batch_size": 4, "epochs": 1, "options": PLAIN}


@pytest.fixture(scope="module")
def learned_alone(lab, tmp_path_factory):
    """The weights that one process learns with the settings `SHORT`."""
    return run(lab, copy_results(lab, tmp_path_factory.mktemp("alone")), **SHORT)


def assert_learned(expected, results):
    """Check that a training has learned these weights but for rounding."""
    weights = load_model(results / "model.pth").state_dict
    torch.testing.assert_close(dict(weights), expected, rtol=0, atol=2e-6)


def test_two_processes_learn_what_one_learns(lab, learned_alone, tmp_path):
    results = copy_results(lab, tmp_path)
    train_in_two(lab, results, gpus=2, accumulate=2, **SHORT)
    assert_learned(learned_alone, results)


def test_two_nodes_meet_and_learn(lab, learned_alone, tmp_path):
    """Each node has its torchrun, as srun would start it."""
    chosen, results = settings(gpus=1, nodes=2, **SHORT), copy_results(lab, tmp_path)
    placement = Placement("cpu", processes=2, nodes=2)
    request = results / "request"
    call = partial(train_here, settings=chosen, placement=placement, **job(lab, results))
    request.write_bytes(pickle.dumps((call, None)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        meeting = f"127.0.0.1:{server.getsockname()[1]}"
    words = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"]
    words += [f"--rdzv-endpoint={meeting}", "-m", PROCESS, str(request)]
    nodes = [
        subprocess.Popen([sys.executable, "-m", "torch.distributed.run", *words]) for _ in "12"
    ]
    assert [node.wait(300) for node in nodes] == [0, 0]
    assert_learned(learned_alone, results)


def test_two_stopped_and_killed_processes_end_equal(lab, tmp_path):
    results, straight = (copy_results(lab, tmp_path / name) for name in ("stopped", "straight"))
    two = {"gpus": 2, "ema": 0.5}
    train_in_two(lab, straight, **two)

    # A signal to the second process stops both in the third of eight iterations.
    stopped = OFTEN | signal_at(3, signal.SIGUSR1, of=1)
    assert end_of(start(lab, results, stopped, **two)) == 1
    assert "came: saved after 3 of 8 iterations" in said(results).splitlines()[-1]
    # The second is killed in the sixth, which ends the first.
    killed = OFTEN | signal_at(6, signal.SIGKILL, of=1)
    assert end_of(start(lab, results, killed, **two)) == 1
    assert re.search("another process was killed .*what is done$", said(results).strip())
    assert not ranks() and not list(results.glob("work_dirs/.ranks_*"))
    # A signal to the launcher stops both.
    launched = start(lab, results, OFTEN | signal_at(7, signal.SIGSTOP, to="itself", of=0), **two)
    while not any(process.status() == psutil.STATUS_STOPPED for process in ranks()):
        time.sleep(0.1)
    os.kill(launched.pid, signal.SIGTERM)
    time.sleep(1)
    for process in ranks():
        process.resume()
    assert end_of(launched) == 1
    assert re.search("SIGTERM came: saved after [78] of 8", said(results).splitlines()[-1])

    train_in_two(lab, results, options=OFTEN, **two)
    first, second = (load_model(folder / "model.pth").state_dict for folder in (results, straight))
    assert same(first, second)


def test_a_dead_launcher_leaves_no_process(lab, tmp_path):
    launcher = start(lab, copy_results(lab, tmp_path), OFTEN, gpus=2, epochs=1000)
    while len(both := ranks()) < 2:
        assert launcher.is_alive()
        time.sleep(0.1)
    launcher.kill()
    _, alive = psutil.wait_procs(both, timeout=60)
    assert not alive


def test_the_error_of_a_process_is_the_error(lab, tmp_path):
    weights = Path(tmp_path, "k400.pth")
    weights.write_text("no tensors")
    with pytest.raises(EpicError, match=f"^{weights}: not weights that can be "):
        train_in_two(lab, copy_results(lab, tmp_path), gpus=2, load_from=str(weights))


def test_several_nodes_need_a_cluster(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(EpicError, match=r"^train\.nodes is 2, but this is no job of Slurm"):
        train(settings(nodes=2), results="results")
