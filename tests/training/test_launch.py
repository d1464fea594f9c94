"""Trainings in several real processes over gloo: what they learn, and how they end."""

import contextlib
import os
import pickle
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
    work_dir,
)
from support.small_runs import start as begin

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
    """A copy of the lab's results with sixteen train segments, of all participants."""
    return copy_results(lab, tmp_path, segments=16)


def start(lab, results, modules=None, **chosen):
    """Train by `launch`, as the rule does."""
    launch(settings(**chosen), modules=modules, **job(lab, results))


def ranks(launcher: int | None = None) -> list[psutil.Process]:
    """The processes that train, children of `launcher` (None: of this process)."""
    return [child for child in psutil.Process(launcher).children() if PROCESS in child.cmdline()]


# The ways in which a process of a training may end, as torch reports them.
ENDED = {
    "its own error": {"message": {"message": "EpicError: clean/train.txt: line 3: no video"}},
    "aborted": {"exitcode": -signal.SIGABRT},
    "killed": {"exitcode": -signal.SIGKILL},
    "exit code": {"exitcode": 3},
    "lost": {"message": {"message": "RuntimeError: Connection closed by peer\nmore"}},
    "waited": {"message": {"message": "RuntimeError: Timed out waiting 1800000ms"}},
    "ended by the launcher": {"exitcode": -signal.SIGTERM},
}


@pytest.mark.parametrize(
    "cause, others, words",
    [
        ("its own error", ("lost", "killed"), "^clean/train.txt: line 3: no video$"),
        ("killed", ("lost", "ended by the launcher"), r"1 was killed by SIGKILL \(out of memory"),
        (
            "aborted",
            ("waited",),
            r"killed by SIGABRT \(NCCL ends it so where another process did not",
        ),
        ("exit code", ("lost",), r"process 1 ended with exit code 3 \(its reason stands above\)"),
        (
            "waited",
            ("ended by the launcher",),
            "process 1 found that another process did not answer",
        ),
        (
            "lost",
            ("ended by the launcher",),
            "1 failed with RuntimeError: Connection closed by peer ",
        ),
    ],
)
def test_of_the_ends_of_several_processes_the_cause_is_the_error(cause, others, words):
    errors = []
    for end in (cause, *others):
        failure = ProcessFailure(0, 1, exitcode=1, error_file="none")
        vars(failure).update(ENDED[end])
        errors.append(error_of(1 if end == cause else 0, failure))
    for order in (errors, errors[::-1]):
        with pytest.raises(EpicError, match=words) as error:
            raise cause_of(order)
    # After any other end than an error about the input, the same command may go on.
    assert cause == "its own error" or str(error.value).endswith(GO_ON)


def test_two_nodes_of_two_parts_learn_what_one_process_learns_and_listen_on_one_address(
    lab, tmp_path
):
    chosen = {"batch_size": 4, "epochs": 1, "options": PLAIN}
    alone, results = (copy_results(lab, tmp_path / name) for name in ("one", "two"))
    one = run(lab, alone, **chosen)
    where = ("127.0.0.1", free_port("127.0.0.1"), "x", socket.gethostname())
    meet = Nodes(*where, "SLURM_PROCID")
    order = Job(settings(nodes=2, gpus=1, accumulate=2, **chosen), job(lab, results), nodes=meet)
    (results / "job").write_bytes(pickle.dumps((0, start_node, order)))
    nodes = [processes.Process(target=node, args=(number, results)) for number in (0, 1)]
    for process in nodes:
        process.start()
    addresses = set()
    while any(process.is_alive() for process in nodes):
        addresses |= {ip for process in nodes for ip in listening(process.pid)}
        time.sleep(1)
    words = [(results / f"said_{number}.txt").read_text() for number in (0, 1)]
    assert [end_of(process) for process in nodes] == [0, 0], words
    assert "on 2 nodes" in words[0] and addresses == {"127.0.0.1"}
    two = load_model(results / "model.pth").state_dict
    for key, tensor in one.items():
        assert torch.allclose(tensor.double(), two[key].double(), rtol=0, atol=1e-6), key


def listening(pid: int) -> set[str]:
    """The addresses that a process and its children listen on."""
    addresses = set()
    # A process may end while it is looked at.
    with contextlib.suppress(psutil.Error):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                sockets = process.net_connections(kind="inet")
                addresses |= {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
    return addresses


def test_two_processes_are_stopped_by_a_signal_to_one_or_to_the_launcher_and_go_on(lab, tmp_path):
    """A training of two processes is stopped twice, then ends like one that nothing stops.

    A signal to one process stops it in the third of eight iterations, and a signal to the launcher
    in the sixth.
    """
    results, straight = (copy_results(lab, tmp_path / name) for name in ("stopped", "straight"))
    two = {"gpus": 2, "ema": 0.5}
    assert ends_of_two(lab, straight, **two) == [0, 0]
    assert ends_of_two(lab, results, signal_at(3, signal.SIGUSR1, of=1), **two) == [1, 1]
    folder = work_dir(results)
    assert f"saved {folder}/iter_3.pth" in (results / "said_0.txt").read_text()
    key = "backbone.conv1_t.bn.running_mean"
    first, second = states(folder / "iter_3.pth")["rank_states"]
    assert not torch.equal(first["buffers"][key], second["buffers"][key])

    # The hook comes from a module of the user's own.
    stopped = signal_at(6, signal.SIGUSR1, to="parent")
    own = {"folder": str(ROOT / "tests"), "imports": ["support.small_runs"]}
    with pytest.raises(EpicError, match=r"^SIGUSR1 came: saved \S+ after [67] of 8 iterations"):
        start(lab, results, own, options=stopped, **two)
    assert not ranks() and not (results / "model.pth").exists()

    assert ends_of_two(lab, results, **two) == [0, 0]
    ends = [load_model(each / "model.pth").state_dict for each in (results, straight)]
    assert same(*ends)
    # The average has BatchNorm's statistics of both processes, not those of the first.
    state, other = (states(work_dir(each) / "iter_8.pth") for each in (results, straight))
    for one, same_one in zip(state["rank_states"], other["rank_states"], strict=True):
        assert same(one["buffers"], same_one["buffers"])
    first, second = (own["buffers"] for own in state["rank_states"])
    for name, value in first.items():
        assert torch.equal(value, second[name]) and torch.equal(value, ends[0][name]), name


def open_broken_run(number: int, results: Path, root: str) -> None:
    """Be one of two processes that open a run whose kept model is broken, again and again."""
    meet = f"file://{results}/store"
    torch.distributed.init_process_group("gloo", init_method=meet, rank=number, world_size=2)
    config = build_config(settings(options=LOGGED, **WHOLE), str(results), root)
    kept = run_dir(results) / "model.pth"
    whole = kept.read_bytes()
    for _ in range(20):
        torch.distributed.barrier()
        if number == 0:
            kept.write_bytes(whole[:-100])
        torch.distributed.barrier()
        first, second = from_all(open_run(results / "work_dirs", config))
        assert first == second and first.attempt is not None
    torch.distributed.destroy_process_group()


def test_of_a_broken_kept_model_all_processes_see_the_same_each_time(lab, straight, tmp_path):
    """Each process looked for itself: one renamed the broken file while the other read it."""
    results = shutil.copytree(straight.results, tmp_path / "results")
    both = [processes.Process(target=open_broken_run, args=(n, results, lab.root)) for n in (0, 1)]
    for process in both:
        process.start()
    assert [end_of(process) for process in both] == [0, 0]
    # The finished attempt is still there, and each of the 20 openings began another one.
    assert len(attempts(run_dir(results))) == 21 and not (run_dir(results) / "model.pth").exists()


def states(path: Path) -> dict:
    """The contents of a checkpoint."""
    return torch.load(path, weights_only=True)


def test_processes_share_indexes_and_listen_here_alone_and_one_that_is_killed_ends_all(
    lab, results
):
    mapped, addresses = [], set()

    def kill_when_saved():
        while not list(results.glob("work_dirs/*/attempt_*/iter_*.pth")):
            time.sleep(0.1)
        addresses.update(listening(os.getpid()))
        both = sorted(ranks(), key=lambda rank: rank.environ()["RANK"])
        for rank in both:
            lines = Path(f"/proc/{rank.pid}/maps").read_text().splitlines()
            mapped.append({line.split()[-1] for line in lines if "/epic100_ranks_" in line})
        both[1].send_signal(signal.SIGKILL)

    threading.Thread(target=kill_when_saved, daemon=True).start()
    words = "^stopped, because process 1 was killed by SIGKILL .*goes on from what is done"
    with pytest.raises(EpicError, match=words):
        start(lab, results, **LONG)
    # There is a file for each participant, and both map the same ones.
    assert len(mapped[0]) == 3 and mapped[0] == mapped[1]
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"} and not ranks()
    assert not (results / "model.pth").exists()


def test_a_process_that_hangs_is_waited_for_so_long_and_no_longer(lab, tmp_path):
    results = copy_results(lab, tmp_path)
    waits, hangs = (
        begin(
            lab,
            results,
            signal_at(2, signal.SIGSTOP, of=1),
            gpus=2,
            patience=0.3,
            of_several=(number, 2, f"{tmp_path}/store"),
        )
        for number in (0, 1)
    )
    assert end_of(waits) == 1
    hangs.kill()
    assert "Timed out waiting" in (results / "said_0.txt").read_text().splitlines()[-1]
    assert not (results / "model.pth").exists()


def test_the_launcher_s_death_leaves_no_process_behind(lab, results):
    launcher = processes.Process(target=start, args=(lab, results), kwargs=LONG)
    launcher.start()
    while len(both := ranks(launcher.pid)) < 2:
        assert launcher.is_alive()
        time.sleep(0.1)
    launcher.kill()
    _, alive = psutil.wait_procs(both, timeout=60)
    assert not alive


def test_a_broken_file_that_a_process_finds_is_an_error_of_the_class_that_the_launcher_knows(
    lab, tmp_path
):
    results = copy_results(lab, tmp_path)
    weights = results / "k400.pth"
    weights.write_text("<!DOCTYPE html>")
    assert end_of(begin(lab, results, of_several=(0, 1, ""), load_from=str(weights))) == 1
    last = (results / "said_0.txt").read_text().splitlines()[-1]
    assert last.startswith(f"epic100.base.errors.EpicError: {weights}: not weights that can be ")
