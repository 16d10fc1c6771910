"""A TCP link that really loses packets, without touching the machine's own network: for hosts without containers.

    Toxiproxy -> (this machine's loopback) relay -> loopback of a namespace of ours, where packets are dropped -> relay -> server

A small process makes a network namespace that belongs to nobody else (`unshare(2)`, with a user namespace where it is not
root), installs nftables' random drop there, and hands the relay pairs of connected sockets of that namespace (SCM_RIGHTS). So
each connection of the edge crosses a loopback on which TCP must retransmit. Namespace and rule end with the process.

`python -m labs.faults.lossy_link HOST:PORT PER_THOUSAND` writes a JSON line with its port, then one with counters for each line it
is sent, and ends when its stdin closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labs.faults import nftables

INSIDE_PORT = 9000
PIECE_BYTES = 1 << 16
_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000
_GET_FLAGS, _SET_FLAGS, _UP, _SET_MTU = 0x8913, 0x8914, 0x1, 0x8922
_INTERFACE = struct.Struct("16sH14x")
_MTU = struct.Struct("16si12x")
ETHERNET_MTU = 1500


class NoNamespaceError(Exception):
    """Why this machine gives us no lossy namespace, in one sentence."""


# --- the process in the namespace ---------------------------------------------------------------------------------------


def enter_namespace(per_thousand: int) -> None:
    """Leave the machine's network for one of our own, with its loopback up and lossy. Raises NoNamespaceError."""
    user, group = os.getuid(), os.getgid()
    kinds = _NEW_NETWORK if user == 0 else _NEW_NETWORK | _NEW_USER
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(kinds) != 0:
        why = os.strerror(ctypes.get_errno())
        raise NoNamespaceError(f"This machine gives us no network namespace of our own ({why}); packet loss needs one.")
    try:
        if user != 0:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        _raise_loopback()
    except OSError as error:
        raise NoNamespaceError(f"The loopback of our network namespace could not be brought up: {error}.") from None
    try:
        nftables.drop(INSIDE_PORT, per_thousand)
    except OSError as error:
        raise NoNamespaceError(
            f"nftables' random match is not permitted or not in this kernel, so no packet can be lost: {error}."
        ) from None


def _raise_loopback() -> None:
    with socket.socket() as any_socket:
        flags = fcntl.ioctl(any_socket, _GET_FLAGS, _INTERFACE.pack(b"lo", 0))
        fcntl.ioctl(any_socket, _SET_MTU, _MTU.pack(b"lo", ETHERNET_MTU))
        fcntl.ioctl(any_socket, _SET_FLAGS, _INTERFACE.pack(b"lo", _INTERFACE.unpack(flags)[1] | _UP))


def retransmitted() -> int:
    """TCP segments sent again in this namespace (RFC 4022, tcpRetransSegs)."""
    names, values = [
        line.split() for line in Path("/proc/self/net/snmp").read_text().splitlines() if line.startswith("Tcp:")
    ]
    return int(dict(zip(names, values, strict=True))["RetransSegs"])


def make_pairs(control: socket.socket) -> None:
    """For each `p` a pair of sockets that are connected through the lossy loopback; for each `c` the counters.

    Ends when the relay does. A connection takes as long as TCP needs to get its handshake through.
    """
    number = 0
    while order := control.recv(1):
        if order == b"c":
            counted = nftables.count()
            text = json.dumps({"seen": counted.seen, "dropped": counted.dropped, "retransmitted": retransmitted()})
            control.send(b"c" + text.encode())
        else:
            number += 1
            threading.Thread(target=_connect, args=(control, number), daemon=True).start()


def _connect(control: socket.socket, number: int) -> None:
    """Each pair at a loopback address of its own, so that no accept takes another one's connection."""
    here = (f"127.1.{number >> 8 & 255}.{number & 255}", INSIDE_PORT)
    try:
        with socket.create_server(here) as listener, socket.create_connection(here, timeout=60) as near:
            far, _ = listener.accept()
            with far:
                socket.send_fds(control, [b"p"], [near.fileno(), far.fileno()])
    except OSError:
        with contextlib.suppress(OSError):  # the relay is gone, too
            control.send(b"f")


# --- the relay on this machine's network --------------------------------------------------------------------------------


class Relay:
    """Carries each connection of its port to the server, by way of the namespace."""

    def __init__(self, host: str, port: int, control: socket.socket) -> None:
        self._host, self._port, self._control = host, port, control
        self._counts: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: list[asyncio.Future[tuple[socket.socket, socket.socket]]] = []

    async def counters(self) -> str:
        """A line of JSON from the namespace."""
        self._control.send(b"c")
        return await self._counts.get()

    def listen_to_factory(self) -> None:
        """A pair or counters have come."""
        data, descriptors, _, _ = socket.recv_fds(self._control, 4096, 2)
        if data[:1] == b"c":
            self._counts.put_nowait(data[1:].decode())
        elif data == b"p":
            self._waiting.pop(0).set_result((_ready(descriptors[0]), _ready(descriptors[1])))
        elif data == b"f":
            self._waiting.pop(0).set_exception(ConnectionError("no connection through the namespace"))

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, both ways, until both ends have finished or one breaks."""
        with contextlib.suppress(asyncio.CancelledError):  # the relay ends, and asyncio 3.11 would complain of it here
            await self._carry(reader, writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair: asyncio.Future[tuple[socket.socket, socket.socket]] = asyncio.get_running_loop().create_future()
        self._waiting.append(pair)
        self._control.send(b"p")
        writers = [writer]
        try:
            near_socket, far_socket = await pair
            near_reader, near = await asyncio.open_connection(sock=near_socket)
            far_reader, far = await asyncio.open_connection(sock=far_socket)
            writers += [near, far]
            server_reader, server = await asyncio.open_connection(self._host, self._port)
            writers.append(server)
            ways = ((reader, near), (far_reader, server), (server_reader, far), (near_reader, writer))
            async with asyncio.TaskGroup() as group:
                for source, target in ways:
                    group.create_task(_pump(source, target))
        except* OSError:
            pass  # one end broke: closing the others tells them
        finally:
            for one in writers:
                one.close()


def _ready(descriptor: int) -> socket.socket:
    one = socket.socket(fileno=descriptor)
    one.setblocking(False)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _serve(host: str, port: int, control: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    relay = Relay(host, port, control)
    loop.add_reader(control, relay.listen_to_factory)
    server = await asyncio.start_server(relay.carry, "127.0.0.1", 0)
    _say(json.dumps({"port": server.sockets[0].getsockname()[1]}))
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        _say(await relay.counters())


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@contextmanager
def _factory(per_thousand: int) -> Iterator[socket.socket]:
    """The process in the namespace, and our end of the socket to it. Raises NoNamespaceError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        ours.close()
        _be_factory(theirs, per_thousand)
    theirs.close()
    try:
        if (answer := ours.recv(1000)) != b"ready":
            raise NoNamespaceError(answer.decode() or "The process in the namespace ended at once.")
        yield ours
    finally:
        ours.close()
        os.waitpid(child, 0)


def _be_factory(control: socket.socket, per_thousand: int) -> None:
    """In the forked child: never returns."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the relay
    try:
        enter_namespace(per_thousand)
        control.send(b"ready")
        make_pairs(control)
    except NoNamespaceError as error:
        control.send(str(error).encode())
    finally:
        os._exit(0)


def main(arguments: list[str]) -> int:
    """HOST:PORT of the server, and how many packets of a thousand are lost."""
    host, _, port = arguments[0].rpartition(":")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a Ctrl-C at the terminal is for the command that holds our stdin
    try:
        with _factory(int(arguments[1])) as control:
            asyncio.run(_serve(host, int(port), control))
    except NoNamespaceError as error:
        _say(json.dumps({"problem": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
