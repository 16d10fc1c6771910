"""A table of ours in the packet filter of *this* process's network namespace: drops a share of the packets of one TCP port.

Spoken over nfnetlink (linux/netfilter/nf_tables.h), since neither our image nor every machine has the program `nft`. It would
say: `table inet lab_loss { chain input { type filter hook input priority 0; tcp dport 17501 counter numgen random mod 1000
< 50 counter drop } }`, and the same for output and sport. Never used in the namespace of the machine itself.

As a program, which `loss` runs by its text in a container's network (so it needs the standard library only): `PORT PER_THOUSAND`
drops until stdin closes, with a JSON line when it does and one with counters for each line it is sent; `clear` removes the table.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

TABLE = "lab_loss"
PER_THOUSAND = 1000

_NETFILTER, _BATCH_BEGIN, _BATCH_END = 12, 0x10, 0x11
_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE, _GET_RULE = (0xA00 | number for number in (0, 2, 3, 6, 7))
_REQUEST, _ACK, _DUMP, _CREATE, _APPEND = 0x1, 0x4, 0x300, 0x400, 0x800
_INET, _ERROR, _DONE, _NESTED = 1, 2, 3, 0x8000
_INPUT, _OUTPUT = 1, 3  # hooks: NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT
_SOURCE_PORT, _DESTINATION_PORT = 0, 2  # offsets in the TCP header
_REGISTER, _VERDICT = 1, 0
_EQUAL, _LESS = 0, 2
_HEADER = struct.Struct("=IHHII")
_GENERAL = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class Counted:
    """Packets of the port since the table was made."""

    seen: int
    dropped: int


def drop(port: int, per_thousand: int) -> None:
    """Drop that share of what this namespace receives at and sends from a TCP port. Replaces an earlier table.

    Raises OSError where the kernel refuses: no right to, or no nftables.
    """
    clear()
    messages = [
        _message(_NEW_TABLE, _text(1, TABLE), _CREATE),
        *_chain("input", _INPUT, _DESTINATION_PORT, port, per_thousand),
        *_chain("output", _OUTPUT, _SOURCE_PORT, port, per_thousand),
    ]
    _transact(messages)


def clear() -> None:
    """Remove the table; none is fine. Raises OSError."""
    try:
        _transact([_message(_DELETE_TABLE, _text(1, TABLE), 0)])
    except FileNotFoundError:
        return


def count() -> Counted:
    """Raises OSError; zeros without a table."""
    seen = dropped = 0
    for rule in _rules():
        counters = list(_counters(rule))
        if len(counters) == 2:
            seen += counters[0]
            dropped += counters[1]
    return Counted(seen, dropped)


def _chain(name: str, hook: int, offset: int, port: int, per_thousand: int) -> list[bytes]:
    where = _nested(4, _number(1, hook) + _number(2, 0))
    chain = _text(1, TABLE) + _text(3, name) + where + _number(5, 1) + _text(7, "filter")
    tcp = socket.IPPROTO_TCP
    expressions = [
        _expression("meta", _number(1, _REGISTER) + _number(2, 16)),  # l4proto
        _compare(_EQUAL, bytes([tcp])),
        _expression("payload", _number(1, _REGISTER) + _number(2, 2) + _number(3, offset) + _number(4, 2)),
        _compare(_EQUAL, struct.pack("!H", port)),
        _expression("counter", b""),
        _expression("numgen", _number(1, _REGISTER) + _number(2, PER_THOUSAND) + _number(3, 1) + _number(4, 0)),
        # The generator leaves a number of this machine's byte order, and the comparison is of bytes.
        _expression("byteorder", b"".join(_number(*pair) for pair in ((1, 1), (2, 1), (3, 1), (4, 4), (5, 4)))),
        _compare(_LESS, struct.pack("!I", per_thousand)),
        _expression("counter", b""),
        _expression("immediate", _number(1, _VERDICT) + _nested(2, _nested(2, _number(1, 0)))),
    ]
    rule = _text(1, TABLE) + _text(2, name) + _nested(4, b"".join(expressions))
    return [_message(_NEW_CHAIN, chain, _CREATE), _message(_NEW_RULE, rule, _CREATE | _APPEND)]


def _compare(how: int, value: bytes) -> bytes:
    return _expression("cmp", _number(1, _REGISTER) + _number(2, how) + _nested(3, _attribute(1, value)))


def _expression(name: str, data: bytes) -> bytes:
    return _nested(1, _text(1, name) + _nested(2, data))


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _nested(kind: int, value: bytes) -> bytes:
    return _attribute(kind | _NESTED, value)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("!I", value))


def _message(kind: int, body: bytes, flags: int, *, family: int = _INET, resource: int = 0) -> bytes:
    payload = _GENERAL.pack(family, 0, resource) + body
    return _HEADER.pack(_HEADER.size + len(payload), kind, _REQUEST | flags, 1, 0) + payload


def _transact(messages: list[bytes]) -> None:
    """All or none, as the kernel does a batch; the last message asks for the answer."""
    last = messages[-1]
    length, kind, flags, sequence, port = _HEADER.unpack_from(last)
    messages[-1] = _HEADER.pack(length, kind, flags | _ACK, sequence, port) + last[_HEADER.size :]
    edges = [_message(kind, b"", 0, family=0, resource=10) for kind in (_BATCH_BEGIN, _BATCH_END)]
    with _netlink() as netlink:
        netlink.send(edges[0] + b"".join(messages) + edges[1])
        for kind, body in _answers(netlink.recv(1 << 16)):
            code = struct.unpack_from("=i", body)[0] if kind == _ERROR else 0
            if code:
                raise OSError(-code, os.strerror(-code))


def _rules() -> Iterator[bytes]:
    with _netlink() as netlink:
        netlink.send(_message(_GET_RULE, _text(1, TABLE), _DUMP))
        while True:
            for kind, body in _answers(netlink.recv(1 << 18)):
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code == errno.ENOENT:
                        return
                    raise OSError(code, os.strerror(code))
                yield body[_GENERAL.size :]


def _netlink() -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
    netlink.settimeout(5)
    return netlink


def _answers(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        yield kind, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & ~_NESTED, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def _counters(rule: bytes) -> Iterator[int]:
    expressions = dict(_attributes(rule)).get(4, b"")
    for _, expression in _attributes(expressions):
        parts = dict(_attributes(expression))
        if parts.get(1) == b"counter\0":
            (packets,) = struct.unpack("!Q", dict(_attributes(parts[2]))[2])
            yield packets


def main(arguments: list[str]) -> int:
    """Exit code 1 when the kernel or the engine does not permit it."""
    try:
        if arguments[0] == "clear":
            clear()
            _say({})
            return 0
        drop(int(arguments[0]), int(arguments[1]))
    except OSError as error:
        _say({"problem": f"nftables' random match is not permitted in the container or not in this kernel: {error}."})
        return 1
    try:
        _say({})
        for _ in sys.stdin:
            counted = count()
            _say({"seen": counted.seen, "dropped": counted.dropped})
    finally:
        clear()
    return 0


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
