"""Ports that a training opens: none beyond the machine itself, and none that unpickles."""

import socket
import stat
from pathlib import Path

import psutil
import pytest
from torch.distributed.elastic.rendezvous.api import RendezvousParameters
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import create_backend
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from epic100.settings import TrainSettings
from epic100.training.launch import RANK, _private_folder, launch
from epic100.training.meeting import Nodes, free_port, meet_at, meet_in
from support.small_runs import SMALL, copy_results, processes

pytestmark = pytest.mark.slow

LOCAL = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


def train(results: str, root: str) -> None:
    settings = TrainSettings(
        config="config/x3d_demo.py",
        load_from=None,
        epochs=1,
        batch_size=4,
        device="cpu",
        gpus=2,
        options=SMALL,
    )
    launch(settings, f"{results}/model.pth", results=results, video_root=root, num_verbs=97,
           num_nouns=300)  # fmt: skip


def listening(process: psutil.Process) -> set:
    """Addresses that a process listens on."""
    return {c.laddr for c in process.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN}


def look(process: psutil.Process) -> tuple[set, bool]:
    """The addresses beyond this machine's own, and whether the process is a rank."""
    try:
        is_rank = RANK in process.cmdline()
        return {address for address in listening(process) if address.ip not in LOCAL}, is_rank
    except psutil.Error:  # it has ended
        return set(), False


def test_a_training_of_two_processes_listens_on_this_machine_alone(lab, tmp_path):
    results = copy_results(lab, tmp_path, segments=8)
    launcher = processes.Process(target=train, args=(str(results), lab.root))
    launcher.start()
    open_to_all, ranks = set(), set()
    while launcher.is_alive():
        for process in psutil.Process().children(recursive=True):
            addresses, is_rank = look(process)
            open_to_all |= addresses
            ranks |= {process.pid} if is_rank else set()
        launcher.join(0.3)
    assert launcher.exitcode == 0 and (results / "model.pth").is_file()
    assert len(ranks) >= 2 and open_to_all == set()


def meeting_of(config: dict) -> RendezvousParameters:
    return RendezvousParameters(
        config["rdzv_backend"], config["rdzv_endpoint"], "run", 1, 1, **config["rdzv_configs"]
    )


def test_the_ranks_meet_in_a_folder_that_others_may_not_enter():
    with _private_folder("/dev/shm") as meeting:
        assert stat.S_IMODE(Path(meeting).stat().st_mode) == 0o700
        config, before = meet_in(meeting), listening(psutil.Process())
        _, store = create_backend(meeting_of(config))
        assert listening(psutil.Process()) == before, "the rendezvous opened a port"
        store.set("a", "b")
        assert Path(config["rdzv_endpoint"]).parent == Path(meeting)
    assert not Path(meeting).exists()


def test_several_nodes_meet_at_one_address_of_the_first_alone():
    """Torch's own static rendezvous listens on all of its addresses."""
    port = free_port("127.0.0.1")
    config = meet_at(Nodes(count=1, rank=0, address="127.0.0.1", port=port, run_id="run"))
    handler = get_rendezvous_handler(meeting_of(config))
    store = handler.next_rendezvous().store
    assert {ip for ip, used in listening(psutil.Process()) if used == port} == {"127.0.0.1"}
    store.set("a", "b")
    assert handler.use_agent_store  # so the ranks open no port for another one


def test_a_listener_on_all_addresses_is_seen_as_one():
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        assert ("0.0.0.0", server.getsockname()[1]) in look(psutil.Process())[0]


@pytest.mark.parametrize("parent", [None, "/no/such/folder"])
def test_without_a_folder_in_memory_the_temporary_one_serves(parent):
    with _private_folder(parent) as folder:
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
