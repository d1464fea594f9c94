"""Where the processes of a training meet: a file on one node, one address over several nodes.

torchrun's default is a store that listens on all addresses of the node and unpickles whatever
anyone sends to it. Neither way here does.
"""

import os
import socket
from dataclasses import dataclass
from typing import Any

import psutil
from torch.distributed import PrefixStore, TCPStore
from torch.distributed.elastic.rendezvous import RendezvousInfo, RendezvousParameters
from torch.distributed.elastic.rendezvous.api import RendezvousStoreInfo
from torch.distributed.elastic.rendezvous.registry import handler_registry
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous

from epic100.base.errors import EpicError

BACKEND = "epic100_one_address"
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")  # the user's own choice wins
WAIT_SECONDS = 600  # for the other nodes to start
# The ranks meet through a file. Without this variable the agent still opens a port for them.
ONE_NODE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


@dataclass(frozen=True)
class Nodes:
    """The nodes of a training.

    Args:
        count: Number of nodes.
        address: IPv4 address of the first node, which the others connect to.
        port: Port on that address.
        run_id: A name that only the nodes of this training know.
        host: Name of the first node.
    """

    count: int
    address: str
    port: int
    run_id: str
    host: str = ""


def meet_in(folder: str) -> dict[str, Any]:
    """Settings of torchrun's launcher on one node, whose agent is found through a file."""
    endpoint = os.path.join(folder, "agents")
    return {
        "rdzv_backend": "c10d",
        "rdzv_endpoint": endpoint,
        "rdzv_configs": {"store_type": "file"},
    }


def meet_at(nodes: Nodes, rank: int) -> dict[str, Any]:
    """Settings of torchrun's launcher on the node with this number, one of several."""
    return {
        "rdzv_backend": BACKEND,
        "rdzv_endpoint": f"{nodes.address}:{nodes.port}",
        "rdzv_configs": {"rank": rank, "timeout": WAIT_SECONDS},
    }


class OneAddressRendezvous(StaticTCPRendezvous):
    """torchrun's static rendezvous, whose store on node 0 listens on its one address only.

    Torch's own listens on all addresses of the node. The processes of the training use the same
    store, so node 0 opens no other port for them.
    """

    def get_backend(self) -> str:
        """The name under which torch finds it."""
        return BACKEND

    def next_rendezvous(self) -> RendezvousInfo:
        """Open the store on node 0, or connect to it.

        Raises:
            EpicError: The address cannot be used, or node 0 does not answer in time.
        """
        where = f"{self.master_addr}:{self.master_port}"
        try:
            listener = None
            if self.rank == 0:
                listener = socket.create_server((self.master_addr, self.master_port))
            self._store = self._store or TCPStore(
                self.master_addr, self.master_port, self.world_size, self.rank == 0, self.timeout,
                multi_tenant=True, master_listen_fd=listener.detach() if listener else None,
            )  # fmt: skip
        except (OSError, RuntimeError) as error:  # torch raises RuntimeErrors of its own
            raise EpicError(
                f"node {self.rank} of {self.world_size} cannot use {where}, where the nodes of "
                f"this training meet ({str(error).splitlines()[0]}); set GLOO_SOCKET_IFNAME to "
                "the interface of the network between the nodes, or give the same command again"
            ) from error
        return RendezvousInfo(
            PrefixStore(self.run_id, self._store), self.rank, self.world_size,
            RendezvousStoreInfo(self.master_addr, self.master_port),
        )  # fmt: skip


def _handler(parameters: RendezvousParameters) -> OneAddressRendezvous:
    address, _, port = parameters.endpoint.rpartition(":")
    return OneAddressRendezvous(
        address, int(port), parameters.config["rank"], parameters.max_nodes, parameters.run_id,
        parameters.config["timeout"],
    )  # fmt: skip


handler_registry.register(BACKEND, _handler)


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
