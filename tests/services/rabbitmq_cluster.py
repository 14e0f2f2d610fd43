"""Three RabbitMQ nodes that are one cluster, on loopback, with an epmd of their own.

The epmd is a service beside them: a node that is killed must not take it away from the others.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self

from tests.services.ports import free_port
from tests.services.rabbitmq import RabbitMQ, programs
from tests.services.service import PrivateService

SIZE = 3

# A node that sees less than half of the cluster stops serving, as kolla-ansible sets it.
_CLUSTER = """\
cluster_partition_handling = pause_minority
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.randomized_startup_delay_range.min = 0
cluster_formation.randomized_startup_delay_range.max = 0
mnesia_table_loading_retry_timeout = 5000
"""
# The others look only when both connections are gone. One that saw the node go while another still
# reached it would take that for a partial partition, and pause until the whole cluster is back.
_PARTITION = """
    Others = [N || N <- [%s], N =/= node()],
    [ok = sys:suspend({rabbit_node_monitor, N}) || N <- Others],
    [erlang:set_cookie(N, no_such_cookie) || N <- Others],
    [erlang:disconnect_node(N) || N <- Others].
"""
_LOOK = "sys:resume(rabbit_node_monitor)."
_HEAL = "[erlang:set_cookie(N, erlang:get_cookie()) || N <- [%s], N =/= node()]."


class Epmd(PrivateService):
    """Erlang's name service, on a port of its own."""

    name = "epmd"

    def __init__(self) -> None:
        _, _, self._epmd = programs()
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def _prepare(self) -> None:
        pass

    def _launch(self) -> None:
        self._spawn(*self._epmd, "-port", str(self.port), "-address", "127.0.0.1")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True


class ClusterNode(RabbitMQ):
    """One node of a cluster. It joins the others when it first starts."""

    def __init__(self, number: int, epmd: Epmd, cookie: str) -> None:
        super().__init__()
        self.node = f"node{number}@localhost"
        self._epmd_port = epmd.port
        self._cookie = cookie

    def _prepare(self) -> None:
        super()._prepare()
        self._write(".erlang.cookie", self._cookie).chmod(0o400)
        peers = (
            f"cluster_formation.classic_config.nodes.{n} = node{n}@localhost\n"
            for n in range(1, SIZE + 1)
        )
        self._write("rabbitmq.conf", _CLUSTER + "".join(peers))

    def _launch(self) -> None:
        self._spawn(*self._server)

    def _environment(self) -> Mapping[str, str]:
        return {**super()._environment(), "RABBITMQ_NODENAME": self.node}


class Cluster:
    """Three nodes as a context manager; each can be killed, started again and cut off."""

    nodes: tuple[ClusterNode, ...]

    def __enter__(self) -> Self:
        """Start them; blocks for about twenty seconds."""
        with ExitStack() as undo:
            epmd, cookie = undo.enter_context(Epmd()), secrets.token_hex(16)
            nodes = [ClusterNode(number, epmd, cookie) for number in range(1, SIZE + 1)]
            undo.enter_context(nodes[0])
            with ThreadPoolExecutor() as pool:
                for node in pool.map(ClusterNode.__enter__, nodes[1:]):
                    undo.push(node)
            self.nodes = tuple(nodes)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them and remove their data."""
        self._undo.close()

    def url(self, vhost: str = "/", scheme: str = "rabbit") -> str:
        """Return one URL that names every node, as operators write it."""
        hosts = ",".join(f"guest:guest@127.0.0.1:{node.port}" for node in self.nodes)
        return f"{scheme}://{hosts}/{vhost}"

    def of(self, name: str) -> ClusterNode:
        """Return the node of this name."""
        return next(node for node in self.nodes if node.node == name)

    def others(self, *without: ClusterNode) -> list[ClusterNode]:
        """Return the nodes but for these."""
        return [node for node in self.nodes if node not in without]

    def running(self, asked: ClusterNode) -> set[str]:
        """Return the names of the nodes that one of them sees running RabbitMQ."""
        said = asked.ctl("eval", "rabbit_nodes:all_running().")
        return {node.node for node in self.nodes if node.node in said}

    def partition(self, node: ClusterNode) -> None:
        """Cut a node off from the others; both sides refuse to connect until ``heal``."""
        node.ctl("eval", _PARTITION % self._names())
        for other in self.others(node):
            other.ctl("eval", _LOOK)

    def heal(self, node: ClusterNode) -> None:
        """Let the nodes connect again."""
        node.ctl("eval", _HEAL % self._names())

    def _names(self) -> str:
        return ", ".join(node.node for node in self.nodes)
