"""Connections between the processes of a run, by which each knows at once that another has died.

A collective of NCCL waits for a dead process until its timeout, half an hour by default. The kernel closes a process's
connections when it dies, whatever it dies of, and keep-alive probes find a machine that is gone within a minute.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import threading
from contextlib import suppress
from typing import Final, Literal

import torch.distributed as dist

Ending = Literal["bye", "died", "failed"]

STATUS: Final = 1
"""Exit status of a process whose run has lost another one."""
LOST: Final[list[str]] = []
"""What was said of a process of this run that was lost; nothing while none is."""

_MESSAGE: Final = struct.Struct("!BI")  # how a process has ended, and its rank
_ENDINGS: Final[tuple[Ending, ...]] = ("bye", "died", "failed")
_WORDS: Final = {
    "died": "has died (killed, out of memory, or its machine is gone)",
    "failed": "has ended with an error of its own, which it has shown",
}
_PATIENCE: Final = {"died": 3.0, "failed": 20.0}  # seconds for this process to end by an error of its own
_CONNECT: Final = 30.0  # seconds
_PROBES: Final = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # a silent machine is given up after 40 s


class RankLinks:
    """A connection between the first rank and each other one, watched by a thread.

    Args:
        rank: this process's.
        world: how many there are.
        machines: how many machines they are on.
    """

    def __init__(self, rank: int, world: int, machines: int) -> None:
        self.rank, self.world, self.machines = rank, world, machines
        self._links: dict[int, socket.socket] = {}
        self._ended, self._alarm = threading.Event(), threading.Event()

    def open(self) -> None:
        """Connect, which all ranks do together, and begin to watch.

        Raises:
            OSError: a rank cannot be reached; the others are watched all the same.
        """
        try:
            if self.rank == 0:
                self._accept()
            else:
                self._connect()
        finally:
            for other, link in self._links.items():
                _keep_alive(link)
                threading.Thread(target=self._watch, args=(other, link), daemon=True, name=f"rank-{other}").start()

    def _accept(self) -> None:
        token = secrets.token_bytes(16)
        with socket.create_server(("127.0.0.1" if self.machines == 1 else "", 0), backlog=self.world) as server:
            server.settimeout(_CONNECT)
            _told((server.getsockname()[1], token))
            while len(self._links) < self.world - 1:
                link = server.accept()[0]
                link.settimeout(_CONNECT)
                said = link.recv(len(token) + 4, socket.MSG_WAITALL)
                if said[:-4] == token:
                    self._links[int.from_bytes(said[-4:], "big")] = link
                else:
                    link.close()

    def _connect(self) -> None:
        port, token = _told(None)
        host = "127.0.0.1" if self.machines == 1 else os.environ["MASTER_ADDR"]
        link = socket.create_connection((host, port), _CONNECT)
        link.sendall(token + self.rank.to_bytes(4, "big"))
        self._links[0] = link

    def close(self, how: Ending = "bye") -> None:
        """Tell the others how this process ends; what becomes of them is no matter to it any more."""
        self._ended.set()
        self._tell(how, self.rank)

    def lost(self, seconds: float) -> bool:
        """Whether another process has died; waits for word of it for a while."""
        return self._alarm.wait(seconds)

    def _tell(self, how: Ending, rank: int) -> None:
        for link in self._links.values():
            with suppress(OSError):
                link.sendall(_MESSAGE.pack(_ENDINGS.index(how), rank))

    def _watch(self, other: int, link: socket.socket) -> None:
        said = b""
        with suppress(OSError):
            said = link.recv(_MESSAGE.size, socket.MSG_WAITALL)
        number, rank = _MESSAGE.unpack(said) if len(said) == _MESSAGE.size else (_ENDINGS.index("died"), other)
        how = _ENDINGS[number]
        if how == "bye" or self._ended.is_set() or self._alarm.is_set():
            return
        words = f"Process {rank} of {self.world} {_WORDS[how]}, so this run cannot go on."
        LOST.append(words)
        self._alarm.set()
        if self.rank == 0:
            self._tell(how, rank)
        speaks = self.rank == (1 if rank == 0 else 0)
        if how == "died" and speaks:
            os.write(2, f"\nerror: {words}\n".encode())
        if self._ended.wait(_PATIENCE[how]):
            return
        if how == "failed" and speaks:
            os.write(2, f"\nerror: {words}\n".encode())
        os._exit(STATUS)  # a collective that waits for the other one hears nothing else


def _keep_alive(link: socket.socket) -> None:
    link.settimeout(None)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _told(address: tuple[int, bytes] | None) -> tuple[int, bytes]:
    """What the first rank tells the others: its port, and a word that only they know."""
    told = [address]
    dist.broadcast_object_list(told, src=0)
    assert told[0] is not None
    return told[0]
