"""Several real processes over gloo: the same sums as one, and how they end."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, astuple
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from epic100.base.errors import EpicError
from epic100.model.model_file import load_model
from epic100.training.checkpoints import checkpoints
from epic100.training.launch import RANK, launch, report_failure
from epic100.training.meeting import free_port
from epic100.training.settings import TrainSettings
from epic100.training.several_nodes import NODE, cause_of
from support import small_runs
from support.checkout import run_snakemake
from support.small_runs import copy_results

pytestmark = pytest.mark.slow

SMALL = small_runs.SMALL | {"train_cfg.val_interval": 1}
# BatchNorm out of play; and no Adam, which blows rounding up where gradients are tiny.
PLAIN = {
    "model.backbone.norm_eval": True,
    "optim_wrapper.optimizer": {"_delete_": True, "type": "SGD", "lr": 0.05, "momentum": 0.9},
}


def settings(**kwargs):
    defaults = {"config": "config/x3d_demo.py", "epochs": 2, "batch_size": 8, "device": "cpu"}
    return TrainSettings(**{**defaults, "options": SMALL, **kwargs})


@pytest.fixture
def results(lab, tmp_path) -> Path:
    """A copy of the lab's results with sixteen train segments."""
    return copy_results(lab, tmp_path, segments=16)


def start(lab, results, out="model.pth", **kwargs):
    launch(settings(**kwargs), results / out, results=str(results), video_root=lab.root,
           num_verbs=97, num_nouns=300)  # fmt: skip


def ranks(launcher: int | None = None) -> list[psutil.Process]:
    return [child for child in psutil.Process(launcher).children() if RANK in child.cmdline()]


def test_two_processes_of_two_parts_learn_what_one_process_learns(lab, results):
    weights = {}
    for gpus, accumulate in ((1, 1), (2, 2)):
        start(lab, results, gpus=gpus, accumulate=accumulate, options=SMALL | PLAIN)
        weights[gpus] = load_model(results / "model.pth").state_dict
        shutil.rmtree(results / "work_dirs")
    assert not ranks()
    for key, one in weights[1].items():
        assert torch.allclose(one.double(), weights[2][key].double(), rtol=0, atol=1e-6), key


@pytest.fixture
def two_nodes(lab, results):
    """Starts the two nodes of a training on this machine, as srun would; returns both."""
    started = []

    def start_both(**chosen) -> list[subprocess.Popen]:
        job = {"settings": asdict(settings(nodes=2, gpus=1, **chosen)), "asked": 0, "nodes": 2,
               "model_path": f"{results}/model.pth", "results": str(results), "num_verbs": 97,
               "num_nouns": 300, "video_root": lab.root, "modules": {}, "run_id": "x",
               "host": socket.gethostname(), "address": "127.0.0.1",
               "port": free_port("127.0.0.1")}  # fmt: skip
        for number in "01":
            command = [sys.executable, "-P", "-m", NODE, repr(job)]
            env = os.environ | {"SLURM_PROCID": number}
            started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
        return started

    yield start_both
    for node in started:
        node.kill()
        node.wait()


def test_two_nodes_learn_what_one_process_learns_and_listen_on_one_address(lab, results, two_nodes):
    start(lab, results, options=SMALL | PLAIN)
    one = load_model(results / "model.pth").state_dict
    shutil.rmtree(results / "work_dirs")
    (results / "model.pth").unlink()
    nodes, addresses = two_nodes(options=SMALL | PLAIN), set()
    while any(node.poll() is None for node in nodes):
        addresses |= {ip for node in nodes for ip in listening(node.pid)}
        time.sleep(0.2)
    said = [node.stdout.read() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "on 2 nodes" in said[0] and addresses == {"127.0.0.1"}
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


def test_several_nodes_without_slurm_are_refused(lab, results, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(EpicError, match=r"^train\.nodes is 2, but this is no Slurm job"):
        start(lab, results, nodes=2)


def test_of_the_errors_of_several_nodes_the_cause_is_reported():
    lost = "training ended, because process 0 failed with RuntimeError: Connection closed by peer"
    killed = "training ended, because process 1 was killed by SIGKILL (out of memory, or by hand)"
    clear = "results/clean/train.txt: is empty"
    for words in ([lost, killed], [killed, lost]):
        assert str(cause_of(map(EpicError, words))) == killed
    assert str(cause_of(map(EpicError, [lost, killed, clear]))) == clear


def test_processes_share_indexes_and_one_that_is_killed_ends_all_and_is_named(lab, results):
    mapped = []

    def kill():
        while True:  # until both have trained for an epoch
            if list(results.glob("work_dirs/*/*.pth")):
                break
            time.sleep(0.1)
        for rank in ranks():
            lines = Path(f"/proc/{rank.pid}/maps").read_text().splitlines()
            mapped.append({line.split()[-1] for line in lines if "/epic100_ranks_" in line})
        next(r for r in ranks() if r.environ()["RANK"] == "1").send_signal(signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    words = "^training ended, because process 1 was killed by SIGKILL .*goes on from the last"
    with pytest.raises(EpicError, match=words):
        start(lab, results, gpus=2, epochs=1000)
    assert len(mapped[0]) == 3 and mapped[0] == mapped[1]  # a file for each participant
    assert not ranks()
    assert not (results / "model.pth").exists()


def test_a_signal_to_the_launcher_saves_and_what_goes_on_ends_as_plain_torchrun_does(lab, results):
    straight = results.parent / "straight"
    shutil.copytree(results, straight)
    job = {"settings": asdict(settings(gpus=2, ema=0.5)), "model_path": f"{straight}/model.pth",
           "results": str(straight), "video_root": lab.root, "num_verbs": 97,
           "num_nouns": 300}  # fmt: skip
    torchrun = Path(sys.executable).with_name("torchrun")
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // 2))}
    subprocess.run([torchrun, "--standalone", "--nproc-per-node", "2", "-m", RANK, repr(job)],
                   env=environment, check=True, capture_output=True)  # fmt: skip

    def signalled():
        while not list(results.glob("work_dirs/*/iter_1.pth")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR1)

    often = {"checkpoint": {"iterations": 1, "keep": 9}, "ema": 0.5}
    thread = threading.Thread(target=signalled, daemon=True)
    thread.start()
    with pytest.raises(EpicError, match=r"^SIGUSR1 came: saved \S+ after [1-3] of 4 iterations"):
        start(lab, results, gpus=2, **often)
    assert not ranks() and not (results / "model.pth").exists()
    start(lab, results, gpus=2, **often)
    ends = [load_model(folder / "model.pth").state_dict for folder in (results, straight)]
    assert small_runs.same(*ends)
    # The average has BatchNorm's statistics of both processes, not those of the first.
    state = torch.load(checkpoints(small_runs.work_dir(results))[0], weights_only=True)
    first, second = (own["buffers"] for own in state["rank_states"])
    for name, value in first.items():
        assert torch.equal(value, second[name]) and torch.equal(value, ends[0][name]), name
    averaged = state["state_dict"]["backbone.conv1_s.conv.weight"]
    assert torch.equal(ends[0]["backbone.conv1_s.conv.weight"], averaged)


def test_a_process_that_hangs_is_waited_for_so_long_and_no_longer(lab, results):
    stopped = []

    def stop():
        while not list(results.glob("work_dirs/*/*.pth")):
            time.sleep(0.1)
        waits, hangs = sorted(ranks(), key=lambda r: r.environ()["RANK"])
        hangs.suspend()
        with contextlib.suppress(psutil.NoSuchProcess):
            while waits.status() != psutil.STATUS_ZOMBIE:  # its exit code is the launcher's
                time.sleep(0.1)
        hangs.resume()  # so that it can be ended
        stopped.append(hangs)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    words = r"did not answer within `train: patience_minutes:` .*goes on from the last"
    with pytest.raises(EpicError, match=words):
        start(lab, results, gpus=2, epochs=1000, patience_minutes=0.2)
    thread.join(20)
    assert stopped and not ranks()
    assert not (results / "model.pth").exists()


def test_an_abort_is_named_as_nccl_s_way_to_end_what_waits():
    failure = ProcessFailure(local_rank=1, pid=1, exitcode=-signal.SIGABRT, error_file="none")
    with pytest.raises(EpicError, match=r"killed by SIGABRT \(NCCL ends it so where another"):
        report_failure(1, failure)


def test_the_launcher_knows_every_kind_of_our_errors_in_a_process(tmp_path):
    program = (
        "import epic100.training.rank as rank, epic100.training.run as run\n"
        "from epic100.base.atomic import DiskFullError\n"
        "def full(*_, **__): raise DiskFullError('model.pth: no space')\n"
        "run.train = full\n"
        "rank.main({'settings': {'config': ''}, 'model_path': ''})\n"
    )
    report = tmp_path / "error.json"
    environment = os.environ | {"TORCHELASTIC_ERROR_FILE": str(report), "WORLD_SIZE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert done.returncode != 0
    message = json.loads(report.read_text())["message"]["message"]
    assert message == "EpicError: error: model.pth: no space"


def test_the_launcher_s_death_leaves_no_process_behind(lab, results):
    launcher = multiprocessing.get_context("spawn").Process(
        target=start, args=(lab, results), kwargs={"gpus": 2, "epochs": 1000}
    )
    launcher.start()
    while len(found := ranks(launcher.pid)) < 2:
        time.sleep(0.1)
    launcher.kill()
    assert not psutil.wait_procs(found, timeout=60)[1]


def test_through_the_rule_the_reason_ends_its_log_and_the_workflow_fails(lab, tmp_path):
    shutil.copytree(lab.folder, tmp_path, dirs_exist_ok=True)
    rows = [("video_id", "participant_id", "split", "fps", "duration")]
    rows += [astuple(video)[:5] for video in lab.videos.values()]
    sheet, file = tmp_path / "sheet.tsv", tmp_path / "config.yaml"
    sheet.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    os.utime(sheet, (0, 0))  # older than the lists made of it
    csv = "annotations/EPIC_100_{}.csv"
    config = {
        "annotations": {
            "train": csv.format("train"),
            "val": csv.format("validation"),
            "test": None,
        },
        "videos": {"root": "videos", "sheet": "sheet.tsv"},
        "train": {
            "config": "config/x3d_demo.py",
            "device": "cpu",
            "gpus": 2,
            "batch_size": 4,
            "from_scratch": True,
        },
    }
    file.write_text(yaml.safe_dump(config))
    clean = tmp_path / "results/clean/train.txt"  # which the start check does not read
    clean.write_text(clean.read_text().replace("P01/P01_01.MP4", "P01/P01_01.MP4 x", 1))
    done = run_snakemake("results/model.pth", "--directory", str(tmp_path), "--configfile",
                         str(file), "--rerun-triggers", "mtime")  # fmt: skip
    assert done.returncode != 0
    log = (tmp_path / "results/logs/train.log").read_text().splitlines()
    assert log[-1].startswith("error: results/clean/train.txt: line 1: ")
