"""Several real processes over gloo: the same sums as one, and how they end."""

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from epic100.base.atomic import DiskFullError
from epic100.base.errors import EpicError
from epic100.model.model_file import load_model
from epic100.training.launch import PROCESS, Job, cause_of, launch, report_failure
from epic100.training.meeting import Nodes, free_port
from support.checkout import ROOT, call
from support.small_runs import (
    copy_results,
    end_of,
    ends_of_two,
    job,
    processes,
    run,
    same,
    settings,
    signal_at,
    work_dir,
)

pytestmark = pytest.mark.slow

# BatchNorm out of play; and no Adam, which blows rounding up where gradients are tiny.
PLAIN = {
    "model.backbone.norm_eval": True,
    "optim_wrapper.optimizer": {"_delete_": True, "type": "SGD", "lr": 0.05, "momentum": 0.9},
}


@pytest.fixture
def results(lab, tmp_path) -> Path:
    """A copy of the lab's results with sixteen train segments, of all participants."""
    return copy_results(lab, tmp_path, segments=16)


def start(lab, results, modules=None, **chosen):
    launch(settings(**chosen), modules=modules, **job(lab, results))


def ranks(launcher: int | None = None) -> list[psutil.Process]:
    return [child for child in psutil.Process(launcher).children() if PROCESS in child.cmdline()]


def test_of_the_errors_of_several_nodes_the_cause_is_reported():
    lost = "training ended, because process 0 failed with RuntimeError: Connection closed by peer"
    killed = "training ended, because process 1 was killed by SIGKILL (out of memory, or by hand)"
    clear = "results/clean/train.txt: is empty"
    for words in ([lost, killed], [killed, lost]):
        assert str(cause_of(map(EpicError, words))) == killed
    assert str(cause_of(map(EpicError, [lost, killed, clear]))) == clear


@pytest.fixture
def two_nodes(lab, results):
    """Starts the two nodes of a training on this machine, as srun would; returns both."""
    started = []

    def start_both(**chosen) -> list[subprocess.Popen]:
        nodes = Nodes(2, "127.0.0.1", free_port("127.0.0.1"), "x", socket.gethostname())
        what = Job(settings(nodes=2, gpus=1, **chosen), job(lab, results), nodes=nodes)
        (results / "job").write_bytes(pickle.dumps(what))
        for number in "01":
            with (results / "job").open("rb") as file:
                node = subprocess.Popen(
                    [sys.executable, "-P", "-m", PROCESS, "/dev/stdin"], stdin=file, text=True,
                    stdout=subprocess.PIPE, env=os.environ | {"SLURM_PROCID": number},
                )  # fmt: skip
            started.append(node)
        return started

    yield start_both
    for node in started:
        node.kill()
        node.wait()


def test_two_nodes_of_two_parts_learn_what_one_process_learns_and_listen_on_one_address(
    lab, results, two_nodes
):
    chosen = {"batch_size": 8, "options": PLAIN}
    one = run(lab, copy_results(lab, results.parent / "one", segments=16), **chosen)
    nodes, addresses = two_nodes(accumulate=2, **chosen), set()
    while any(node.poll() is None for node in nodes):
        addresses |= {ip for node in nodes for ip in listening(node.pid)}
        time.sleep(0.3)
    words = [node.stdout.read() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], words
    assert "on 2 nodes" in words[0] and addresses == {"127.0.0.1"}
    two = load_model(results / "model.pth").state_dict
    for key, tensor in one.items():
        assert torch.allclose(tensor.double(), two[key].double(), rtol=0, atol=1e-6), key


def listening(pid: int) -> set[str]:
    """Addresses that a process and its children listen on."""
    found = set()
    with contextlib.suppress(psutil.Error):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                inet = process.net_connections(kind="inet")
                found |= {c.laddr.ip for c in inet if c.status == psutil.CONN_LISTEN}
    return found


def test_a_listener_on_all_addresses_is_seen_as_one():
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        assert "0.0.0.0" in listening(os.getpid())


def test_two_processes_are_stopped_by_a_signal_to_one_or_to_the_launcher_and_go_on(lab, results):
    """The first pair is stopped in the third of eight iterations, the second in the sixth; the
    third is started by plain torchrun. They end as a pair that nothing stops."""
    straight = copy_results(lab, results.parent / "straight", segments=16)
    two = {"gpus": 2, "ema": 0.5, "batch_size": 4}
    assert ends_of_two(lab, straight, **two) == [0, 0]
    assert ends_of_two(lab, results, signal_at(3, signal.SIGUSR1, of=1), **two) == [1, 1]
    folder = work_dir(results)
    assert f"saved {folder}/iter_3.pth" in (results / "said_0.txt").read_text()
    key = "backbone.conv1_t.bn.running_mean"
    first, second = states(folder / "iter_3.pth")["rank_states"]
    assert not torch.equal(first["buffers"][key], second["buffers"][key])

    stopped = signal_at(6, signal.SIGUSR1, to="parent")  # a hook of a module of the user's own
    own = {"folder": str(ROOT / "tests"), "imports": ["support.small_runs"]}
    with pytest.raises(EpicError, match=r"^SIGUSR1 came: saved \S+ after [67] of 8 iterations"):
        start(lab, results, own, options=stopped, **two)
    assert not ranks() and not (results / "model.pth").exists()

    what = results / "job"
    what.write_bytes(pickle.dumps(Job(settings(**two), job(lab, results))))
    torchrun = Path(sys.executable).with_name("torchrun")
    threads = str(max(1, len(os.sched_getaffinity(0)) // 2))
    command = [torchrun, "--standalone", "--nproc-per-node", "2", "-m", PROCESS, what]
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    call(*command, env=environment)
    ends = [load_model(each / "model.pth").state_dict for each in (results, straight)]
    assert same(*ends)
    # The average has BatchNorm's statistics of both processes, not those of the first.
    state, other = (states(work_dir(each) / "iter_8.pth") for each in (results, straight))
    for one, same_one in zip(state["rank_states"], other["rank_states"], strict=True):
        assert same(one["buffers"], same_one["buffers"])
    first, second = (own["buffers"] for own in state["rank_states"])
    for name, value in first.items():
        assert torch.equal(value, second[name]) and torch.equal(value, ends[0][name]), name
    averaged = state["state_dict"]["backbone.conv1_s.conv.weight"]
    assert torch.equal(ends[0]["backbone.conv1_s.conv.weight"], averaged)


def states(path: Path) -> dict:
    return torch.load(path, weights_only=True)


@pytest.fixture
def when_saved(results):
    """Starts something in a thread that begins once a checkpoint is there; returns the thread."""

    def begin(then) -> threading.Thread:
        def wait():
            while not list(results.glob("work_dirs/*/*/*.pth")):
                time.sleep(0.1)
            then(*sorted(ranks(), key=lambda rank: rank.environ()["RANK"]))

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread

    return begin


def test_processes_share_indexes_and_listen_here_alone_and_one_that_is_killed_ends_all(
    lab, results, when_saved
):
    mapped, addresses = [], set()

    def kill(*both):
        addresses.update(listening(os.getpid()))
        for rank in both:
            lines = Path(f"/proc/{rank.pid}/maps").read_text().splitlines()
            mapped.append({line.split()[-1] for line in lines if "/epic100_ranks_" in line})
        both[1].send_signal(signal.SIGKILL)

    when_saved(kill)
    words = "^training ended, because process 1 was killed by SIGKILL .*goes on from the last"
    with pytest.raises(EpicError, match=words):
        start(lab, results, gpus=2, epochs=1000)
    assert len(mapped[0]) == 3 and mapped[0] == mapped[1]  # a file for each participant
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"} and not ranks()
    assert not (results / "model.pth").exists()


def test_a_process_that_hangs_is_waited_for_so_long_and_no_longer(
    lab, results, when_saved, monkeypatch
):
    monkeypatch.setattr("epic100.training.launch.PATIENCE_MINUTES", 0.4)

    def stop(waits, hangs):
        hangs.suspend()
        with contextlib.suppress(psutil.NoSuchProcess):
            while waits.status() != psutil.STATUS_ZOMBIE:  # its exit code is the launcher's
                time.sleep(0.1)
        hangs.resume()  # so that it can be ended

    thread = when_saved(stop)
    with pytest.raises(EpicError, match=r"did not answer for half an hour .*goes on from the last"):
        start(lab, results, gpus=2, epochs=1000)
    thread.join(20)
    assert not thread.is_alive() and not ranks()
    assert not (results / "model.pth").exists()


def test_an_abort_is_named_as_nccl_s_way_to_end_what_waits():
    failure = ProcessFailure(local_rank=1, pid=1, exitcode=-signal.SIGABRT, error_file="none")
    with pytest.raises(EpicError, match=r"killed by SIGABRT \(NCCL ends it so where another"):
        report_failure(1, failure)


def rank_on_a_full_disk(report: Path) -> None:
    from epic100.training import process

    def full(*_, **__):
        raise DiskFullError("model.pth: no space")

    os.environ |= {"TORCHELASTIC_ERROR_FILE": str(report), "WORLD_SIZE": "1"}
    process.train = full
    process.rank(Job(settings(), {}))


def test_the_launcher_knows_every_kind_of_our_errors_in_a_process(tmp_path):
    report = tmp_path / "error.json"
    process = processes.Process(target=rank_on_a_full_disk, args=(report,))
    process.start()
    assert end_of(process) != 0
    message = json.loads(report.read_text())["message"]["message"]
    assert message == "EpicError: model.pth: no space"


def test_the_launcher_s_death_leaves_no_process_behind(lab, results):
    launcher = processes.Process(
        target=start, args=(lab, results), kwargs={"gpus": 2, "epochs": 1000}
    )
    launcher.start()
    while len(found := ranks(launcher.pid)) < 2:
        assert launcher.is_alive()
        time.sleep(0.1)
    launcher.kill()
    assert not psutil.wait_procs(found, timeout=60)[1]


def test_bad_input_that_a_process_finds_is_the_error_of_the_launcher(lab, results):
    clean = results / "clean/train.txt"
    clean.write_text(clean.read_text().replace(".MP4", ".MP4 x", 1))
    with pytest.raises(EpicError, match=rf"^{clean}: line 1: "):
        start(lab, results, gpus=2)
