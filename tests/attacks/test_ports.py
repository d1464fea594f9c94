"""Ports that a training opens: none beyond the machine itself, and none that unpickles."""

import multiprocessing
import socket
import stat
import time
from pathlib import Path

import psutil
import pytest
from torch.distributed.elastic.rendezvous.api import RendezvousParameters
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import create_backend
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from epic100.training.launch import RANK, _private_folder, launch
from epic100.training.meeting import Nodes, free_port, meet_at, meet_in
from epic100.training.settings import TrainSettings
from support.small_runs import SMALL, copy_results

pytestmark = pytest.mark.slow

LOCAL = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


def train(results: str, root: str) -> None:
    settings = TrainSettings(config="config/x3d_demo.py", epochs=2, batch_size=8, device="cpu",
                             gpus=2, options=SMALL)  # fmt: skip
    launch(settings, f"{results}/model.pth", results=results, video_root=root, num_verbs=97,
           num_nouns=300)  # fmt: skip


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    """Addresses that a process listens on, beyond this machine's own."""
    try:
        found = process.net_connections(kind="inet")
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return set()
    return {
        (c.laddr.ip, c.laddr.port)
        for c in found
        if c.status == psutil.CONN_LISTEN and c.laddr.ip not in LOCAL
    }


def test_a_training_of_two_processes_listens_on_this_machine_alone(lab, tmp_path):
    results = copy_results(lab, tmp_path, segments=16)
    context = multiprocessing.get_context("spawn")
    launcher = context.Process(target=train, args=(str(results), lab.root))
    launcher.start()
    open_to_all, ranks = set(), set()
    while launcher.is_alive():
        for process in [psutil.Process(launcher.pid)] * launcher.is_alive():
            family = [process, *process.children(recursive=True)]
            open_to_all |= set().union(*map(listening, family))
            ranks |= {child.pid for child in family if RANK in " ".join(_command(child))}
        time.sleep(0.1)
    assert launcher.exitcode == 0 and (results / "model.pth").is_file()
    assert len(ranks) >= 2 and open_to_all == set()


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_the_ranks_meet_in_a_folder_that_others_may_not_enter():
    with _private_folder("/dev/shm") as meeting:
        assert stat.S_IMODE(Path(meeting).stat().st_mode) == 0o700
        config = meet_in(meeting)
        parameters = RendezvousParameters(
            config["rdzv_backend"], config["rdzv_endpoint"], "run", 1, 1, **config["rdzv_configs"]
        )
        before = {c.laddr for c in psutil.Process().net_connections() if c.status == "LISTEN"}
        _, store = create_backend(parameters)
        after = {c.laddr for c in psutil.Process().net_connections() if c.status == "LISTEN"}
        assert after == before, "the rendezvous opened a port"
        store.set("a", "b")
        assert Path(config["rdzv_endpoint"]).parent == Path(meeting)
    assert not Path(meeting).exists()


def test_several_nodes_meet_at_one_address_of_the_first_alone():
    """Torch's own static rendezvous listens on all of its addresses."""
    port = free_port("127.0.0.1")
    config = meet_at(Nodes(count=1, rank=0, address="127.0.0.1", port=port, run_id="run"))
    handler = get_rendezvous_handler(
        RendezvousParameters(
            config["rdzv_backend"], config["rdzv_endpoint"], "run", 1, 1, **config["rdzv_configs"]
        )
    )
    store = handler.next_rendezvous().store
    found = {c.laddr for c in psutil.Process().net_connections() if c.laddr.port == port}
    assert {address.ip for address in found} == {"127.0.0.1"}
    store.set("a", "b")
    assert handler.use_agent_store  # so the ranks open no port for another one


def test_a_listener_on_all_addresses_is_seen_as_one():
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        assert ("0.0.0.0", server.getsockname()[1]) in listening(psutil.Process())


@pytest.mark.parametrize("parent", [None, "/no/such/folder"])
def test_without_a_folder_in_memory_the_temporary_one_serves(parent):
    with _private_folder(parent) as folder:
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
