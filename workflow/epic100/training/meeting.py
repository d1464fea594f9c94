"""Where the processes of a training meet: a file on one node, one address over several nodes.

torch's default is a store that listens on all addresses of the node and unpickles whatever anyone
sends to it. Neither way here does.
"""

import os
import socket
from dataclasses import dataclass
from datetime import timedelta

import psutil
from torch.distributed import PrefixStore, TCPStore

from epic100.base.errors import EpicError

INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")  # the user's own choice wins
WAIT_SECONDS = 600  # for the other nodes to start


@dataclass(frozen=True)
class Nodes:
    """The nodes of a training.

    Args:
        address: IPv4 address of the first node, which the others connect to.
        port: Port on that address.
        run_id: A name that only the nodes of this training know.
        host: Name of the first node.
    """

    address: str
    port: int
    run_id: str
    host: str = ""


def open_store(nodes: Nodes, rank: int, processes: int) -> PrefixStore:
    """Open the store of a training on rank 0, or connect to it.

    Torch's own listens on all addresses of the node, this one on its one address only.

    Args:
        nodes: The nodes.
        rank: Rank of this process.
        processes: Number of processes, over all nodes.

    Raises:
        EpicError: The address cannot be used, or a process does not come in time.
    """
    try:
        own = socket.create_server((nodes.address, nodes.port)).detach() if rank == 0 else None
        store = TCPStore(
            nodes.address, nodes.port, processes, rank == 0, timedelta(seconds=WAIT_SECONDS),
            master_listen_fd=own,
        )  # fmt: skip
    except (OSError, RuntimeError) as error:  # torch raises RuntimeErrors of its own
        raise EpicError(
            f"process {rank} of {processes} cannot use {nodes.address}:{nodes.port}, where the "
            f"nodes of this training meet ({str(error).splitlines()[0]}); set GLOO_SOCKET_IFNAME "
            "to the interface of the network between the nodes, or give the same command again"
        ) from error
    return PrefixStore(nodes.run_id, store)


def own_address() -> str:
    """The IPv4 address at which other nodes reach this one.

    It is that of the interface in GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME, or else that of the
    machine's name.

    Raises:
        EpicError: The interface or the name has no IPv4 address.
    """
    for name in filter(None, map(os.environ.get, INTERFACES)):
        addresses = psutil.net_if_addrs().get(name, [])
        found = [each.address for each in addresses if each.family == socket.AF_INET]
        if not found:
            raise EpicError(
                f"{' or '.join(INTERFACES)} is {name}, which has no IPv4 address here; name the "
                "interface of the network between the nodes"
            )
        return found[0]
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError as error:
        raise EpicError(
            f"the name of this node, {socket.gethostname()}, has no IPv4 address ({error}); set "
            "GLOO_SOCKET_IFNAME to the interface of the network between the nodes"
        ) from error


def free_port(address: str) -> int:
    """A port that is free now on this address of this machine."""
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])


def towards(address: str) -> dict[str, str]:
    """Variables that bind gloo and NCCL to the interface that leads to `address`.

    The one that leads to 127.0.0.1 keeps them off the network. A user's choice of an interface
    wins. NCCL may send its data over InfiniBand all the same.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # sends nothing
        own = probe.getsockname()[0]
    interfaces = psutil.net_if_addrs().items()
    names = [name for name, found in interfaces if own in (each.address for each in found)]
    return {key: names[0] for key in INTERFACES if names and key not in os.environ}
