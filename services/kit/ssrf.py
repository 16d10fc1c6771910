"""Guard for every address that a user supplies: server-side request forgery (OWASP SSRF cheat sheet, CWE-918).

A URL is checked when it is given (`check_url`), and again where it counts, when a socket is opened: the names are resolved
once, *every* address of the answer must be public, and the connection goes to just these addresses. So a name that
resolves to something else the second time (DNS rebinding) gains nothing, and Host and SNI still carry the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL_LENGTH = 2048
PORTS_BELOW_1024 = frozenset({80, 443})
RESOLVE_SECONDS = 5.0
RESOLVER_THREADS = 16
"""getaddrinfo blocks a thread for as long as the user's name server likes. So names have pools of their own, and those that
answered the last time do not wait for those that are new or silent.
"""
ANSWERING_NAMES = 20_000

SPECIAL_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared address space of carrier-grade NAT
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local, and the metadata service of every cloud
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # IETF protocol assignments
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # 6to4 relay anycast, deprecated
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarking
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and limited broadcast
        ),
    )
)
"""Networks of iana.org/assignments/iana-ipv4-special-registry, and multicast, with no ordinary receiver in them."""

GLOBAL_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
"""All that IANA gives out for use in the Internet; the rest of v6 is special or unassigned."""

SPECIAL_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # IETF protocol assignments: Teredo 2001::/32, benchmarking, ORCHID ...
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: any v4 address, private ones too
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)
"""Parts of 2000::/3 in iana.org/assignments/iana-ipv6-special-registry.

Local-use NAT64 (64:ff9b:1::/48) is outside 2000::/3 and refused as a whole: where the v4 address stands in it depends on a
prefix length that only its network knows (RFC 8215).
"""

CARRIES_V4 = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::ffff:0:0/96")))
"""NAT64 (RFC 6052) and v4-mapped addresses: the last 32 bits are the v4 address that is meant, and it is judged."""

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

_AUTHORITY_WITH_USER = re.compile(r"[^/?#]*//[^/?#]*@")
_ENDS_IN_NUMBER = re.compile(r"(^|\.)(0x[0-9a-f]*|[0-9]+)\.?$")
_NAME = re.compile(r"(?!.{254})([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class Refusal(StrEnum):
    """Why a URL or an address is not called."""

    MALFORMED = "malformed"
    TOO_LONG = "too_long"
    SCHEME = "scheme"
    USERINFO = "userinfo"
    FRAGMENT = "fragment"
    PORT = "port"
    HOST_FORM = "host_form"
    NOT_PUBLIC = "not_public"


_SENTENCES = {
    Refusal.MALFORMED: "The URL is not well formed",
    Refusal.TOO_LONG: f"The URL is longer than {MAX_URL_LENGTH} characters",
    Refusal.SCHEME: "The URL must begin with https:// or http://",
    Refusal.USERINFO: "The URL must not carry a user name or password",
    Refusal.FRAGMENT: "The URL must not have a fragment",
    Refusal.PORT: "The port must be 80, 443 or at least 1024",
    Refusal.HOST_FORM: "The host must be a domain name, a dotted IPv4 address or an IPv6 address in brackets",
    Refusal.NOT_PUBLIC: "The host does not lead to public addresses only",
}


class ForbiddenAddressError(aiohttp.ClientConnectionError):
    """The URL, or an address that its host resolves to, is not to be called. The message is one sentence for its owner.

    Not an OSError: aiohttp would take that for a failure of the network and wrap it.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(_SENTENCES[refusal] + ".")
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Policy:
    """What is allowed beside the public Internet: nothing, unless this is the lab.

    `trusted_hosts` are names whose addresses are not looked at (a container's, in the lab). Raises ValueError for an
    exception outside the lab profile.
    """

    lab_profile: bool = False
    allow_loopback: bool = False
    trusted_hosts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.lab_profile and (self.allow_loopback or self.trusted_hosts):
            raise ValueError("loopback addresses and trusted hosts are allowed in the lab profile only")

    def allows(self, address: str) -> bool:
        """Whether a socket may be opened to this address."""
        return is_public(address) or (self.allow_loopback and _is_loopback(address))


PUBLIC_ONLY = Policy()


def is_public(address: str | Address) -> bool:
    """True for a unicast address that belongs to the public Internet. False for anything that is no address.

    Own lists, because `ipaddress.is_private` passes multicast, carrier-grade NAT, 6to4 and NAT64, and its answers
    changed between versions of Python.
    """
    parsed = _parsed(address)
    if parsed is None:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in SPECIAL_V4)
    if parsed.scope_id is not None:
        return False
    if any(parsed in network for network in CARRIES_V4):
        return is_public(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF))
    return parsed in GLOBAL_UNICAST_V6 and not any(parsed in network for network in SPECIAL_V6)


def _parsed(address: str | Address) -> Address | None:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None


def _is_loopback(address: str | Address) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in LOOPBACK)


def check_url(text: str, policy: Policy = PUBLIC_ONLY) -> URL:
    """The URL to call, parsed by the client's own parser, so that both mean the same host. Raises ForbiddenAddressError.

    Checks all that can be known without asking a name server; a literal address is judged here. The rest is judged when
    `guarded_connector` connects.
    """
    url = _well_formed(text)
    host = url.raw_host or ""
    if host in policy.trusted_hosts:
        return url
    address = _parsed(host) if ":" in host or _ENDS_IN_NUMBER.search(host) else None
    if address is None and (_ENDS_IN_NUMBER.search(host) or not _NAME.fullmatch(host)):
        raise ForbiddenAddressError(Refusal.HOST_FORM)
    if address is not None and not policy.allows(host):
        raise ForbiddenAddressError(Refusal.NOT_PUBLIC)
    if _is_localhost(host) and not policy.allow_loopback:
        raise ForbiddenAddressError(Refusal.NOT_PUBLIC)
    return url


def _well_formed(text: str) -> URL:
    if len(text) > MAX_URL_LENGTH:
        raise ForbiddenAddressError(Refusal.TOO_LONG)
    if "\\" in text or any(letter <= " " or letter == "\x7f" for letter in text):
        raise ForbiddenAddressError(Refusal.MALFORMED)
    if _AUTHORITY_WITH_USER.match(text):
        raise ForbiddenAddressError(Refusal.USERINFO)
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        raise ForbiddenAddressError(Refusal.MALFORMED) from None
    if url.scheme not in ("http", "https"):
        raise ForbiddenAddressError(Refusal.SCHEME)
    if not url.raw_host:
        raise ForbiddenAddressError(Refusal.MALFORMED)
    if "#" in text:
        raise ForbiddenAddressError(Refusal.FRAGMENT)
    if port is None or (port < 1024 and port not in PORTS_BELOW_1024):
        raise ForbiddenAddressError(Refusal.PORT)
    return url


def _is_localhost(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


Lookup: TypeAlias = Callable[[str, int, socket.AddressFamily], Sequence[tuple[socket.AddressFamily, str]]]
"""Blocking: the addresses of a name. Raises OSError."""


def system_lookup(host: str, port: int, family: socket.AddressFamily) -> list[tuple[socket.AddressFamily, str]]:
    """The system's resolver (getaddrinfo)."""
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return [(one[0], str(one[4][0])) for one in found]


class GuardedResolver(AbstractResolver):
    """Resolves, and raises ForbiddenAddressError unless every address of the answer is allowed; OSError if there is none."""

    def __init__(self, policy: Policy = PUBLIC_ONLY, lookup: Lookup = system_lookup) -> None:
        self._policy = policy
        self._lookup = lookup
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolve")
        self._unproven = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolve-unproven")
        self._answering: set[str] = set()
        self.trusted: set[str] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.run_in_executor(self._pool(host), self._lookup, host, port, family)
        if len(self._answering) >= ANSWERING_NAMES:
            self._answering.clear()
        self._answering.add(host)
        if not found:
            raise OSError(None, "the name has no address")
        if host in self._policy.trusted_hosts:
            self.trusted.update(address for _, address in found)
        elif not all(self._policy.allows(address) for _, address in found):
            raise ForbiddenAddressError(Refusal.NOT_PUBLIC)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in found
        ]

    def _pool(self, host: str) -> ThreadPoolExecutor:
        """A name is proven by the answer to its last look-up; one that was silent has to prove itself again."""
        if host not in self._answering:
            return self._unproven
        self._answering.discard(host)
        return self._threads

    async def close(self) -> None:
        for pool in (self._threads, self._unproven):
            pool.shutdown(wait=False, cancel_futures=True)


class GuardedConnector(aiohttp.TCPConnector):
    """Opens no socket to an address that the policy refuses, wherever the address came from."""

    def __init__(self, policy: Policy, resolver: GuardedResolver, *, limit: int, keepalive_seconds: float) -> None:
        self._policy = policy
        self._guarded_resolver = resolver
        super().__init__(
            resolver=resolver,
            limit=limit,
            keepalive_timeout=keepalive_seconds,
            socket_factory=self._socket,
        )

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        # aiohttp does not ask the resolver about a literal address, so this is the only place that sees all of them.
        family, kind, protocol, _, (address, *_) = info
        if not self._policy.allows(str(address)) and address not in self._guarded_resolver.trusted:
            raise ForbiddenAddressError(Refusal.NOT_PUBLIC)
        return socket.socket(family, kind, protocol)

    async def close(self, *, abort_ssl: bool = False) -> None:
        await super().close(abort_ssl=abort_ssl)
        await self._guarded_resolver.close()


def guarded_connector(
    policy: Policy = PUBLIC_ONLY,
    *,
    lookup: Lookup = system_lookup,
    limit: int = 1000,
    keepalive_seconds: float = 15.0,
) -> GuardedConnector:
    """A connector for user-supplied addresses: `limit` connections in all (0: no limit).

    Use it in a session with `trust_env=False` (the default; a proxy would connect for us, unchecked) and with
    `allow_redirects=False` on every request.
    """
    return GuardedConnector(policy, GuardedResolver(policy, lookup), limit=limit, keepalive_seconds=keepalive_seconds)
