"""Payload bytes of the TCP connections that a proxy has accepted, read from the kernel.

Toxiproxy counts the bytes of a connection only when it closes, and a pool or a Kafka client keeps its connections for
minutes. The kernel counts at once: `tcp_info` over netlink (sock_diag(7), `struct inet_diag_req_v2` and
`struct tcp_info` of linux/inet_diag.h and linux/tcp.h), for which no privilege is needed.

Standard library only: its text is also run as a program in containers (labs/faults/flows.py).
"""

from __future__ import annotations

import errno
import json
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
REQUEST_DUMP = 0x001 | 0x300
MESSAGE_ERROR, MESSAGE_DONE = 2, 3
INET_DIAG_INFO = 2
LISTEN = 10
ANY_STATE = 0xFFF & ~(1 << LISTEN)

_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")
_PORTS = struct.Struct(">HH")
_COOKIE = struct.Struct("=Q")
_ATTRIBUTE = struct.Struct("=HH")
_BYTES = struct.Struct("=QQ")
_DIAG_MESSAGE = 72
_COOKIE_AT = 4 + 4 + 16 + 16 + 4
_BYTES_AT = 120  # tcpi_bytes_acked, then tcpi_bytes_received: Linux 4.1 and later


@dataclass(frozen=True, slots=True)
class Flow:
    """One accepted connection, seen from the proxy: bytes of payload."""

    from_client: int
    to_client: int


def accepted(port: int) -> dict[int, Flow]:
    """Connections whose local end is `port`, by the kernel's cookie. Raises OSError where the kernel does not tell."""
    flows: dict[int, Flow] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(2)
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), ANY_STATE)
            header = _HEADER.pack(_HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, 1, 0)
            netlink.send(header + request)
            flows.update(_read_dump(netlink, port))
    return flows


def _read_dump(netlink: socket.socket, port: int) -> Iterator[tuple[int, Flow]]:
    while True:
        data = netlink.recv(1 << 18)
        offset = 0
        while offset < len(data):
            length, kind, *_ = _HEADER.unpack_from(data, offset)
            if kind == MESSAGE_DONE:
                return
            if kind == MESSAGE_ERROR:
                code = -struct.unpack_from("=i", data, offset + _HEADER.size)[0]
                raise OSError(code or errno.EIO, "the kernel does not tell about its sockets")
            flow = _flow(data, offset + _HEADER.size, offset + length, port)
            if flow is not None:
                yield flow
            offset += (length + 3) & ~3


def _flow(data: bytes, start: int, end: int, port: int) -> tuple[int, Flow] | None:
    local, _ = _PORTS.unpack_from(data, start + 4)
    if local != port:
        return None
    (cookie,) = _COOKIE.unpack_from(data, start + _COOKIE_AT)
    offset = start + _DIAG_MESSAGE
    while offset + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if kind == INET_DIAG_INFO and length >= _ATTRIBUTE.size + _BYTES_AT + _BYTES.size:
            acked, received = _BYTES.unpack_from(data, offset + _ATTRIBUTE.size + _BYTES_AT)
            return cookie, Flow(max(received, 0), max(acked, 0))
        offset += max((length + 3) & ~3, 4)
    return None


def serve() -> None:
    """One line of JSON for each port on stdin."""
    for line in sys.stdin:
        found = {cookie: asdict(flow) for cookie, flow in accepted(int(line)).items()}
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
