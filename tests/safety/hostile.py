"""What no honest client sends, byte by byte as it goes over the wire: one list for every service.

A case is refused with a problem, or its connection is closed; `harmless` ones may also be answered, since what is odd about them
is what HTTP lets a server ignore.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

LIMIT = 64 * 1024
"""Bytes of a body, as kit.settings has it."""
DEEP = 30_000
"""Of nested brackets, within the limit."""
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Target:
    """A route that reads a body, and a good request for it."""

    path: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    listing: bytes
    """The path of a list or search, asked with GET."""

    @property
    def first(self) -> bytes:
        """The name of the body's first field, as JSON."""
        return msgspec.json.encode(next(iter(msgspec.json.decode(self.body))))


Bytes = Callable[[Target], bytes]


@dataclass(frozen=True)
class Case:
    """`make` builds the whole request. `late`: it says that its time is over, which is answered with the declared 504."""

    name: str
    make: Bytes
    harmless: bool = False
    late: bool = False


def request(
    target: Target,
    *,
    method: bytes = b"POST",
    path: bytes | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
    without: Sequence[bytes] = (),
    body: bytes | None = None,
    framed: bool = True,
) -> bytes:
    """A request as the target has it, with changes; `framed`: with the right Content-Length."""
    own = [(name, value) for name, value in target.headers if name.lower() not in without]
    if method == b"GET":
        own = [(name, value) for name, value in own if name.lower() != b"content-type"]
        sent = b""
    else:
        sent = target.body if body is None else body
    if framed and method != b"GET":
        own.append((b"Content-Length", str(len(sent)).encode()))
    whole = [*own, *headers, (b"Host", b"127.0.0.1"), (b"Connection", b"close")]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in whole)
    where = (target.listing if method == b"GET" else target.path) if path is None else path
    return method + b" " + where + b" HTTP/1.1\r\n" + lines + b"\r\n" + sent


def body(make: Bytes) -> Bytes:
    """The same request with another body."""
    return lambda target: request(target, body=make(target))


def same(sent: bytes) -> Bytes:
    """This body, whatever the target."""
    return body(lambda _: sent)


def headed(*headers: tuple[bytes, bytes], without: Sequence[bytes] = (), method: bytes = b"POST") -> Bytes:
    """With these headers, in place of some."""
    return lambda target: request(target, headers=headers, without=without, method=method)


def typed(media_type: bytes) -> Bytes:
    """With this Content-Type."""
    return headed((b"Content-Type", media_type), without=(b"content-type",))


def asked(path: Bytes) -> Bytes:
    """GET of a path."""
    return lambda target: request(target, method=b"GET", path=path(target))


def field(value: bytes) -> Bytes:
    """The first field has this value."""
    return body(lambda target: b"{" + target.first + b":" + value + b"," + target.body[1:])


def framing(*headers: tuple[bytes, bytes], sent: bytes) -> Bytes:
    """With no other Content-Length than these headers say."""
    return lambda target: request(target, headers=headers, body=sent, framed=False)


def chunked(sent: bytes, size: int) -> bytes:
    """In chunks."""
    pieces = [sent[place : place + size] for place in range(0, len(sent), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


CHUNKED = (b"Transfer-Encoding", b"chunked")
BOMB = gzip.compress(bytes(32 * MEGABYTE), 9)
BIG = b'{"x":"' + b"y" * (LIMIT + 1000) + b'"}'

BODIES: tuple[Case, ...] = (
    Case("100,000 brackets", same(b"[" * 100_000)),
    Case("brackets without end, within the limit", same(b"[" * DEEP)),
    Case("nested arrays", same(b"[" * DEEP + b"]" * DEEP)),
    Case("nested objects", same(b'{"a":' * 9000 + b"1" + b"}" * 9000)),
    Case("a deep field", field(b"[" * 10_000 + b"]" * 10_000)),
    Case("a number of 60,000 digits", field(b"9" * 60_000)),
    Case("a number beyond every float", field(b"1e999999")),
    Case("NaN", field(b"NaN")),
    Case("Infinity", field(b"-Infinity")),
    Case("a hexadecimal number", field(b"0x10")),
    Case("a field twice", field(b"1"), harmless=True),
    Case("a lone surrogate", field(rb'"\ud800"')),
    Case("half a pair of surrogates", field(rb'"\udc00\ud800"')),
    Case("invalid UTF-8", field(b'"\xff\xfe"')),
    Case("overlong UTF-8", field(b'"\xc0\xaf"')),
    Case("a NUL in a field's name", body(lambda target: b'{"\\u0000":1,' + target.body[1:])),
    Case("a field's name of 50 kB", body(lambda target: b'{"' + b"n" * 50_000 + b'":1,' + target.body[1:])),
    Case("5,000 unknown fields", body(lambda _: b"{" + b",".join(b'"f%d":1' % n for n in range(5000)) + b"}")),
    Case("a byte order mark", body(lambda target: b"\xef\xbb\xbf" + target.body)),
    Case("UTF-16", body(lambda target: target.body.decode().encode("utf-16"))),
    Case("UTF-32", body(lambda target: target.body.decode().encode("utf-32"))),
    Case("two documents", body(lambda target: target.body + target.body)),
    Case("a comment", body(lambda target: b"/* */" + target.body)),
    Case("a trailing comma", body(lambda target: target.body[:-1] + b",}")),
    Case("single quotes", body(lambda target: target.body.replace(b'"', b"'"))),
    Case("nothing", same(b"")),
    Case("blanks", same(b" " * 1000)),
    Case("null", same(b"null")),
    Case("an array", body(lambda target: b"[" + target.body + b"]")),
    Case("text", same(b'"text"')),
    Case("a binary body", same(bytes(range(256)) * 16)),
    Case("XML that reads files", same(b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>')),
    Case("a body over the limit", same(BIG)),
    Case("a body far over the limit", same(b" " * 4 * MEGABYTE)),
    Case("a chunked body over the limit", framing(CHUNKED, sent=chunked(BIG, 8192))),
    Case("a body of chunks of a byte", framing(CHUNKED, sent=chunked(b"[" * 3000, 1))),
    Case("a gzip bomb", lambda target: request(target, headers=[(b"Content-Encoding", b"gzip")], body=BOMB[:60_000])),
    Case("deflate", lambda target: request(target, headers=[(b"Content-Encoding", b"deflate")], body=b"x\x9c\x03\x00")),
    Case("no Content-Type", headed(without=(b"content-type",))),
    Case("text/plain", typed(b"text/plain")),
    Case("a form", typed(b"application/x-www-form-urlencoded")),
    Case("multipart without a boundary", typed(b"multipart/form-data")),
    Case("a charset that is not ours", typed(b"application/json; charset=utf-7")),
    Case("a charset that does not exist", typed(b"application/json; charset=klingon")),
    Case("a Content-Type of 8 kB", typed(b"a" * 8192)),
    Case("a Content-Type that is no text", typed(b"\xff\xfe\x00"[:2])),
)
FRAMES: tuple[Case, ...] = (
    Case("a negative length", framing((b"Content-Length", b"-1"), sent=b"{}")),
    Case("a length that is no number", framing((b"Content-Length", b"two"), sent=b"{}")),
    Case("an astronomical length", framing((b"Content-Length", b"9" * 40), sent=b"{}")),
    Case("a large length", framing((b"Content-Length", b"99999999999"), sent=b"{}")),
    Case("two lengths", framing((b"Content-Length", b"2"), (b"Content-Length", b"3"), sent=b"{}x")),
    Case("length and chunks", framing((b"Content-Length", b"2"), CHUNKED, sent=chunked(b"{}", 1))),
    Case("chunks twice", framing(CHUNKED, CHUNKED, sent=chunked(b"{}", 1))),
    Case("another transfer encoding", framing((b"Transfer-Encoding", b"gzip"), sent=b"{}")),
    Case("a chunk of no size", framing(CHUNKED, sent=b"zz\r\n{}\r\n0\r\n\r\n")),
    Case("a chunk of negative size", framing(CHUNKED, sent=b"-2\r\n{}\r\n0\r\n\r\n")),
    Case("a chunk of astronomical size", framing(CHUNKED, sent=b"f" * 40 + b"\r\n{}\r\n0\r\n\r\n")),
    Case("a chunk extension of 1 MiB", framing(CHUNKED, sent=b"2;" + b"x" * MEGABYTE + b"\r\n{}\r\n0\r\n\r\n")),
)
HEADS: tuple[Case, ...] = (
    Case("a header of 1 MiB", headed((b"X-Large", b"x" * MEGABYTE), method=b"GET")),
    Case("a header's name of 1 MiB", headed((b"X" * MEGABYTE, b"x"), method=b"GET")),
    Case("50,000 headers", headed(*((b"X-%d" % n, b"y" * 20) for n in range(50_000)), method=b"GET")),
    Case("2,000 headers of 50 bytes", headed(*((b"X-%d" % n, b"y" * 45) for n in range(2000)), method=b"GET")),
    Case("a NUL in a header", headed((b"X-Nul", b"a\x00b"), method=b"GET")),
    Case("a bare CR in a header", headed((b"X-Cr", b"a\rb"), method=b"GET")),
    Case("a space in a header's name", headed((b"X Space", b"a"), method=b"GET")),
    Case("a header with no name", headed((b"", b"a"), method=b"GET")),
    Case("a folded header", headed((b"X-Fold", b"a\r\n b"), method=b"GET"), harmless=True),
    Case("a hundred Authorization headers", headed(*((b"Authorization", b"Bearer x"),) * 100, method=b"GET"), True),
    Case("two idempotency keys", headed((b"Idempotency-Key", b"a"), (b"Idempotency-Key", b"b")), harmless=True),
    Case("an idempotency key of 8 kB", headed((b"Idempotency-Key", b"k" * 8192), without=(b"idempotency-key",)), True),
    Case("an absurd Range", headed((b"Range", b"bytes=0-18446744073709551616,-1"), method=b"GET"), harmless=True),
    Case("5,000 ranges", headed((b"Range", b"bytes=" + b"0-1," * 5000), method=b"GET"), harmless=True),
    Case("an absurd If-Match", headed((b"If-Match", b'"' + b"9" * 5000 + b'"'), method=b"GET"), harmless=True),
    Case("an If-Modified-Since of never", headed((b"If-Modified-Since", b"Tue, 99 Foo 99999"), method=b"GET"), True),
    Case("a time limit that is no number", headed((b"Request-Timeout-Ms", b"NaN"), method=b"GET"), harmless=True),
    Case("an astronomical time limit", headed((b"Request-Timeout-Ms", b"9" * 400), method=b"GET"), harmless=True),
    Case("a negative time limit", headed((b"Request-Timeout-Ms", b"-1"), method=b"GET"), harmless=True, late=True),
    Case("a traceparent that is none", headed((b"traceparent", b"00-\xff\xfe-" + b"z" * 4000), method=b"GET"), True),
    Case("an expectation that nobody knows", headed((b"Expect", b"200-ok"), method=b"GET"), harmless=True),
    Case(
        "an upgrade to WebSocket", headed((b"Upgrade", b"websocket"), (b"Sec-WebSocket-Key", b"x"), method=b"GET"), True
    ),
    Case("a cookie of 30 kB", headed((b"Cookie", b"webhooks_session=" + b"." * 30_000), method=b"GET"), harmless=True),
    Case("no Host", lambda target: b"GET " + target.listing + b" HTTP/1.1\r\nConnection: close\r\n\r\n", harmless=True),
    Case("a Host that is elsewhere", headed((b"Host", b"evil.example\x7f"), method=b"GET"), harmless=True),
)
PATHS: tuple[Case, ...] = (
    Case("a NUL in the path", asked(lambda target: target.listing.split(b"?")[0] + b"/%00")),
    Case("a path that goes up", asked(lambda _: b"/v1/../../../../etc/passwd")),
    Case("an escaped path that goes up", asked(lambda _: b"/v1/%2e%2e/%2e%2e/etc/passwd")),
    Case("a backslashed path", asked(lambda _: rb"/v1/..%5c..%5cetc%5cpasswd")),
    Case("a path that is no UTF-8", asked(lambda target: target.listing.split(b"?")[0] + b"/%ff%fe")),
    Case("raw bytes in the path", asked(lambda _: b"/v1/\xff\xfe")),
    Case("a path of 60 kB", asked(lambda _: b"/v1/" + b"a" * 60_000)),
    Case("a path of slashes", asked(lambda _: b"/" * 2000)),
    Case("half an escape", asked(lambda _: b"/v1/%")),
    Case("a URI of a proxy", asked(lambda _: b"http://169.254.169.254/latest/meta-data")),
    Case("an asterisk", asked(lambda _: b"*")),
    Case("no path", asked(lambda _: b"")),
    Case("a parameter twice", asked(lambda target: joined(target, b"limit=1&limit=2"))),
    Case("a NUL in a parameter", asked(lambda target: joined(target, b"cursor=%00"))),
    Case("a parameter that is no UTF-8", asked(lambda target: joined(target, b"cursor=%ff%fe"))),
    Case("an astronomical limit", asked(lambda target: joined(target, b"limit=" + b"9" * 4000))),
    Case("a limit in Arabic digits", asked(lambda target: joined(target, b"limit=%D9%A1"))),
    Case("2,000 parameters", asked(lambda target: joined(target, b"&".join(b"p%d=1" % n for n in range(2000))))),
    Case("a query of 60 kB", asked(lambda target: joined(target, b"cursor=" + b"a" * 60_000))),
    Case("SQL in a parameter", asked(lambda target: joined(target, b"cursor=%27%20OR%201=1--"))),
    Case("a method that is none", lambda target: request(target, method=b"BREW")),
    Case("TRACE", lambda target: request(target, method=b"TRACE")),
    Case("CONNECT", lambda target: request(target, method=b"CONNECT", path=b"example.com:80")),
    Case("PATCH where there is none", lambda target: request(target, method=b"PATCH")),
    Case("HTTP/2 without asking", lambda _: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Case("HTTP/9.9", lambda target: b"GET " + target.listing + b" HTTP/9.9\r\n\r\n"),
    Case("HTTP/0.9", lambda target: b"GET " + target.listing + b"\r\n\r\n", harmless=True),
    Case("TLS", lambda _: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
    Case("noise", lambda _: bytes(range(255, 0, -1)) * 8),
    Case("SMTP", lambda _: b"EHLO example.com\r\nMAIL FROM:<a@example.com>\r\n\r\n"),
)
CASES = (*BODIES, *FRAMES, *HEADS, *PATHS)


def joined(target: Target, query: bytes) -> bytes:
    """The list's path with more parameters."""
    return target.listing + (b"&" if b"?" in target.listing else b"?") + query
