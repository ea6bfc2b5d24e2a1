"""Several workers of one protocol: each on a core of its own, all on one socket."""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest

from tests.process.support import ServedGateway, served
from tests.support.users import until

CORES = sorted(os.sched_getaffinity(0))
CLIENTS = 12


def several_workers(config: dict[str, Any]) -> None:
    """One WebDAV worker for each core, and one SFTP worker more than that."""
    config["server"]["webdav"]["workers"] = len(CORES)
    config["server"]["sftp"]["workers"] = len(CORES) + 1


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    """A gateway with several workers of each protocol, on a machine of several cores."""
    with served(tmp_path_factory.mktemp("workers"), several_workers) as running:
        yield running


def port_of(gateway: ServedGateway, wire: str) -> int:
    return gateway.webdav_port if wire == "webdav" else gateway.sftp_port


def connections(gateway: ServedGateway, wire: str) -> Counter[int]:
    """Return how many clients each worker of the protocol has, by its process id."""
    port = port_of(gateway, wire)
    return Counter(
        {
            worker.pid: sum(
                each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port
                for each in worker.net_connections("tcp")
            )
            for worker in gateway.workers(wire)
        }
    )


def test_workers_as_many_as_cores_keep_to_one_each(serving: ServedGateway) -> None:
    kept = [worker.cpu_affinity() for worker in serving.workers("webdav")]
    assert sorted(kept) == [[core] for core in CORES]


def test_workers_of_any_other_number_may_use_all_cores(serving: ServedGateway) -> None:
    for worker in serving.workers("sftp"):
        assert sorted(worker.cpu_affinity()) == CORES


def shared_out(gateway: ServedGateway, wire: str) -> bool:
    """Return whether more than one worker gets clients out of a crowd that comes at once."""
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            client = socket.create_connection(("127.0.0.1", port_of(gateway, wire)), 20)
            stack.enter_context(client)
        until(lambda: connections(gateway, wire).total() == CLIENTS, "all were accepted")
        found = connections(gateway, wire)
    until(lambda: connections(gateway, wire).total() == 0, "all are gone")
    return sum(each > 0 for each in found.values()) > 1


@pytest.mark.parametrize("wire", ["webdav", "sftp"])
def test_clients_who_come_at_once_are_shared_out(serving: ServedGateway, wire: str) -> None:
    """Not always, and how evenly, depends on which workers are awake; a few crowds must do."""
    if len(serving.workers(wire)) > 1:
        until(lambda: shared_out(serving, wire), "a crowd was shared out")


def test_clients_of_a_worker_that_hangs_are_served_by_another(serving: ServedGateway) -> None:
    """Nobody waits in the line of one worker while another is free."""
    stopped, *_ = serving.workers("sftp")
    stopped.send_signal(signal.SIGSTOP)
    try:
        for _ in range(CLIENTS):
            with socket.create_connection(("127.0.0.1", serving.sftp_port), 20) as client:
                assert client.recv(8) == b"SSH-2.0-"
    finally:
        stopped.send_signal(signal.SIGCONT)
