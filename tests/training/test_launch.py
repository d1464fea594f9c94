"""Trainings in several real processes over gloo: what they learn, and how they end."""

import contextlib
import os
import pickle
import re
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from epic100.base.errors import EpicError
from epic100.base.ranks import PROCESS, cause_of, error_of, from_all
from epic100.base.stop import GO_ON
from epic100.model.model_file import load_model
from epic100.training.launch import Job, Nodes, free_port, launch, start_node
from epic100.training.recipe import build_config
from epic100.training.run import attempts, open_run
from support.checkout import ROOT
from support.small_runs import (
    LOGGED,
    WHOLE,
    copy_results,
    end_of,
    ends_of_two,
    job,
    node,
    processes,
    run,
    run_dir,
    same,
    settings,
    signal_at,
    start,
    work_dir,
)

pytestmark = pytest.mark.slow

# With these options, several processes learn the same as one: BatchNorm keeps its statistics, and
# no Adam makes large differences from the rounding of tiny gradients.
PLAIN = {
    "model.backbone.norm_eval": True,
    "optim_wrapper.optimizer": {"_delete_": True, "type": "SGD", "lr": 0.05, "momentum": 0.9},
}
# Two processes would train for days with these settings, and save in each iteration.
LONG = {"gpus": 2, "epochs": 1000, "options": {"default_hooks.checkpoint.iterations": 1}}


@pytest.fixture
def results(lab, tmp_path) -> Path:
    """Copy the lab's results with sixteen train segments, of all participants."""
    return copy_results(lab, tmp_path, segments=16)


def train_by_launch(lab, results, modules=None, **chosen):
    """Train by `launch`, as the rule does."""
    launch(settings(**chosen), modules=modules, **job(lab, results))


def ranks(launcher: int | None = None) -> list[psutil.Process]:
    """List the processes that train, children of `launcher` (None: of this process)."""
    return [child for child in psutil.Process(launcher).children() if PROCESS in child.cmdline()]


def last_line(results, number: int) -> str:
    """Read the last line of the output of a process that `start` started."""
    return (results / f"said_{number}.txt").read_text().splitlines()[-1]


# The ways in which a process of a training may end, as torch reports them.
ENDS = {
    "own error": {"message": {"message": "EpicError: clean/train.txt: line 3: no video"}},
    "aborted": {"exitcode": -signal.SIGABRT},
    "killed": {"exitcode": -signal.SIGKILL},
    "exit code": {"exitcode": 3},
    "connection closed": {"message": {"message": "RuntimeError: Connection closed by peer\nmore"}},
    "timed out": {"message": {"message": "RuntimeError: Timed out waiting 1800000ms"}},
    "ended by the launcher": {"exitcode": -signal.SIGTERM},
}


@pytest.mark.parametrize(
    "cause, consequences, words",
    [
        ("own error", ["connection closed", "killed"], "^clean/train.txt: line 3: no video$"),
        (
            "killed",
            ["connection closed", "ended by the launcher"],
            r"1 was killed by SIGKILL \(out of memory",
        ),
        (
            "aborted",
            ["timed out"],
            r"killed by SIGABRT \(NCCL ends it so where another process did not",
        ),
        (
            "exit code",
            ["connection closed"],
            r"process 1 ended with exit code 3 \(its reason stands above\)",
        ),
        (
            "timed out",
            ["ended by the launcher"],
            "process 1 found that another process did not answer",
        ),
        (
            "connection closed",
            ["ended by the launcher"],
            "1 failed with RuntimeError: Connection closed by peer ",
        ),
    ],
)
def test_the_error_of_several_processes_is_that_of_the_cause(cause, consequences, words):
    """Process 1 ends first, and process 0 as a consequence."""
    errors = []
    for number, end in [(1, cause), *((0, end) for end in consequences)]:
        failure = ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file="none")
        vars(failure).update(ENDS[end])
        errors.append(error_of(number, failure))
    for order in (errors, errors[::-1]):
        assert re.search(words, str(cause_of(order)))
    # After any other end than an error about the input, the same command may go on.
    assert cause == "own error" or str(cause_of(errors)).endswith(GO_ON)


def test_two_nodes_learn_what_one_process_learns_and_listen_on_one_address(lab, tmp_path):
    chosen = {"batch_size": 4, "epochs": 1, "options": PLAIN}
    alone, results = (copy_results(lab, tmp_path / name) for name in ("one", "two"))
    expected = run(lab, alone, **chosen)
    nodes = Nodes(
        address="127.0.0.1",
        port=free_port("127.0.0.1"),
        run_id="x",
        host=socket.gethostname(),
        rank="SLURM_PROCID",
    )
    chosen |= {"nodes": 2, "gpus": 1, "accumulate": 2}
    order = Job(settings(**chosen), job(lab, results), nodes=nodes)
    (results / "job").write_bytes(pickle.dumps((0, start_node, order)))
    both = [processes.Process(target=node, args=(number, results)) for number in (0, 1)]
    for process in both:
        process.start()
    addresses = set()
    while any(process.is_alive() for process in both):
        addresses |= {address for process in both for address in listening(process.pid)}
        time.sleep(1)
    output = (results / "said_0.txt").read_text()
    assert [end_of(process) for process in both] == [0, 0], output
    assert "on 2 nodes" in output and addresses == {"127.0.0.1"}
    weights = load_model(results / "model.pth").state_dict
    for key, tensor in expected.items():
        torch.testing.assert_close(weights[key], tensor, rtol=0, atol=1e-6)


def listening(pid: int) -> set[str]:
    """List the addresses that a process and its children listen on."""
    addresses = set()
    # A process may end while it is looked at.
    with contextlib.suppress(psutil.Error):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                sockets = process.net_connections(kind="inet")
                addresses |= {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
    return addresses


def test_two_processes_that_are_stopped_twice_end_in_the_same_weights(lab, tmp_path):
    results, straight = (copy_results(lab, tmp_path / name) for name in ("stopped", "straight"))
    two = {"gpus": 2, "ema": 0.5}
    assert ends_of_two(lab, straight, **two) == [0, 0]

    # A signal to the second process stops both in the third of eight iterations.
    assert ends_of_two(lab, results, signal_at(3, signal.SIGUSR1, of=1), **two) == [1, 1]
    folder = work_dir(results)
    assert f"saved {folder}/iter_3.pth" in (results / "said_0.txt").read_text()
    first, second = buffers_in(folder / "iter_3.pth")
    assert not same(first, second)

    # A signal to the launcher stops both in the sixth iteration, or when it has passed the signal
    # on. The hook that sends it comes from a module of the user's own.
    stopped = signal_at(6, signal.SIGUSR1, to="parent")
    modules = {"folder": str(ROOT / "tests"), "imports": ["support.small_runs"]}
    with pytest.raises(EpicError, match=r"^SIGUSR1 came: saved \S+ after [67] of 8 iterations"):
        train_by_launch(lab, results, modules, options=stopped, **two)
    assert not ranks() and not (results / "model.pth").exists()

    assert ends_of_two(lab, results, **two) == [0, 0]
    weights = load_model(results / "model.pth").state_dict
    assert same(weights, load_model(straight / "model.pth").state_dict)
    # The processes share BatchNorm's statistics at the end of an epoch, and the model has them.
    first, second = buffers_in(work_dir(results) / "iter_8.pth")
    assert same(first, second) and same(first, {name: weights[name] for name in first})


def buffers_in(checkpoint: Path) -> list[dict[str, torch.Tensor]]:
    """Read the buffers of each process from a checkpoint."""
    states = torch.load(checkpoint, weights_only=True)["rank_states"]
    return [state["buffers"] for state in states]


def open_broken_run(number: int, results: Path, root: str) -> None:
    """Be one of two processes that open a run whose finished model is broken, again and again."""
    store = f"file://{results}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=number, world_size=2)
    config = build_config(settings(options=LOGGED, **WHOLE), str(results), root)
    finished = run_dir(results) / "model.pth"
    intact = finished.read_bytes()
    for _ in range(20):
        torch.distributed.barrier()
        if number == 0:
            finished.write_bytes(intact[:-100])
        torch.distributed.barrier()
        first, second = from_all(open_run(results / "work_dirs", config))
        assert first == second and first.attempt is not None
    torch.distributed.destroy_process_group()


def test_all_processes_agree_that_a_finished_model_is_broken(lab, straight, tmp_path):
    """Each process looked for itself: one renamed the broken file while the other read it."""
    results = shutil.copytree(straight.results, tmp_path / "results")
    both = [processes.Process(target=open_broken_run, args=(n, results, lab.root)) for n in (0, 1)]
    for process in both:
        process.start()
    assert [end_of(process) for process in both] == [0, 0]
    # The finished attempt is still there, and each of the 20 openings began another one.
    assert len(attempts(run_dir(results))) == 21 and not (run_dir(results) / "model.pth").exists()


def test_a_killed_process_ends_all_processes_of_its_training(lab, results):
    mapped_files, addresses = [], set()

    def kill_after_a_save():
        while not list(results.glob("work_dirs/*/attempt_*/iter_*.pth")):
            time.sleep(0.1)
        addresses.update(listening(os.getpid()))
        both = sorted(ranks(), key=lambda rank: rank.environ()["RANK"])
        for rank in both:
            lines = Path(f"/proc/{rank.pid}/maps").read_text().splitlines()
            mapped_files.append({line.split()[-1] for line in lines if "/epic100_ranks_" in line})
        both[1].kill()

    threading.Thread(target=kill_after_a_save, daemon=True).start()
    words = "^stopped, because process 1 was killed by SIGKILL .*goes on from what is done"
    with pytest.raises(EpicError, match=words):
        train_by_launch(lab, results, **LONG)
    # While they trained, both mapped the same files: an index of each of the three participants.
    first, second = mapped_files
    assert len(first) == 3 and first == second
    # They listened on no address that another machine can reach.
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert not ranks() and not (results / "model.pth").exists()


def test_a_process_waits_for_another_that_hangs_until_its_patience_ends(lab, results):
    options = signal_at(2, signal.SIGSTOP, of=1)
    store = f"{results}/store"
    # The patience is in minutes.
    two = {"gpus": 2, "patience": 0.3}
    waiting = start(lab, results, options, of_several=(0, 2, store), **two)
    hanging = start(lab, results, options, of_several=(1, 2, store), **two)
    assert end_of(waiting) == 1
    hanging.kill()
    assert "Timed out waiting" in last_line(results, 0)
    assert not (results / "model.pth").exists()


def test_the_launcher_s_death_leaves_no_process_behind(lab, results):
    launcher = processes.Process(target=train_by_launch, args=(lab, results), kwargs=LONG)
    launcher.start()
    while len(both := ranks(launcher.pid)) < 2:
        assert launcher.is_alive()
        time.sleep(0.1)
    launcher.kill()
    _, alive = psutil.wait_procs(both, timeout=60)
    assert not alive


def test_a_process_names_the_class_of_an_error_about_its_input(lab, results):
    """The launcher knows `EpicError` by its name, but not the classes that are derived from it."""
    weights = results / "k400.pth"
    weights.write_text("<!DOCTYPE html>")
    process = start(lab, results, of_several=(0, 1, ""), load_from=str(weights))
    assert end_of(process) == 1
    words = f"epic100.base.errors.EpicError: {weights}: not weights that can be "
    assert last_line(results, 0).startswith(words)
