from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from services.kit.ssrf import (
    PUBLIC_ONLY,
    SPECIAL_V4,
    SPECIAL_V6,
    ForbiddenAddressError,
    GuardedResolver,
    Policy,
    Refusal,
    check_url,
    guarded_connector,
    is_public,
    system_lookup,
)

LAB = Policy(lab_profile=True, allow_loopback=True)

MISSED_BY_THE_STANDARD_LIBRARY = [
    "100.64.0.1",  # carrier-grade NAT
    "224.0.0.1",  # multicast
    "239.255.255.250",  # multicast
    "192.88.99.1",  # 6to4 relay
    "ff02::1",  # multicast
    "ff0e::1",  # multicast
    "64:ff9b::a9fe:a9fe",  # NAT64 of 169.254.169.254
    "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
    "2002:a9fe:a9fe::1",  # 6to4 of 169.254.169.254
    "2002:7f00:1::1",  # 6to4 of 127.0.0.1
]

SPECIAL = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.1", "192.0.0.8", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.168.1.1", "192.175.48.1", "198.18.0.1",
    "198.19.255.255", "198.51.100.1", "203.0.113.1", "240.0.0.1", "255.255.255.255", "100.127.255.255",
    "::", "::1", "::7f00:1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:100.64.0.1", "64:ff9b::10.0.0.1",
    "64:ff9b:1::1", "64:ff9b:1:8:8:800::", "100::1", "100:0:0:1::1", "2001::1", "2001:0:a9fe:a9fe::", "2001:2::1",
    "2001:10::1", "2001:20::1", "2001:db8::1", "2620:4f:8000::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "2a00:1450::1%eth0", *MISSED_BY_THE_STANDARD_LIBRARY,
]  # fmt: skip

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
    "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "198.17.255.255", "198.20.0.0",
    "223.255.255.255", "2001:4860:4860::8888", "2606:4700:4700::1111", "2a00:1450::1", "2003::1", "3ffe::1",
    "64:ff9b::8.8.8.8", "::ffff:8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("address", SPECIAL)
def test_an_address_of_a_special_network_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_neighbours_of_special_networks_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", MISSED_BY_THE_STANDARD_LIBRARY)
def test_the_standard_library_takes_these_for_public(address: str) -> None:
    assert not ipaddress.ip_address(address).is_private
    assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_a_v4_address_hidden_in_nat64_or_in_a_mapped_address_is_judged_as_itself(
    address: ipaddress.IPv4Address,
) -> None:
    for prefix in ("64:ff9b::", "::ffff:0:0"):
        hidden = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(address))
        assert is_public(hidden) is is_public(address)


@given(st.ip_addresses(v=4))
def test_no_v4_address_becomes_public_by_6to4_or_teredo(address: ipaddress.IPv4Address) -> None:
    assert not is_public(ipaddress.IPv6Address(0x2002 << 112 | int(address) << 80 | 1))
    assert not is_public(ipaddress.IPv6Address(0x20010000 << 96 | int(address) << 64 | 1))
    assert not is_public(ipaddress.IPv6Address(0x20010000 << 96 | (int(address) ^ 0xFFFFFFFF)))


@given(st.sampled_from([*SPECIAL_V4, *SPECIAL_V6]), st.data())
def test_no_address_of_a_listed_network_is_public(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network, data: st.DataObject
) -> None:
    assert not is_public(network[data.draw(st.integers(0, network.num_addresses - 1))])


@given(st.ip_addresses())
def test_whatever_the_standard_library_calls_private_is_not_public_here(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert not (address.is_private and is_public(address))


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "0x7f.0.0.1", "2130706433", "127.1", "010.0.0.1", "[::1]"])
def test_what_is_no_address_is_not_public(text: str) -> None:
    assert not is_public(text)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "http://example.com/hook?a=b",
        "https://example.com:443/",
        "https://example.com:8443/",
        "https://example.com:1024/",
        "https://example.com:65535/",
        "https://EXAMPLE.com",
        "https://1.1.1.1/",
        "https://[2606:4700:4700::1111]:8443/x",
        "https://bücher.example/",
        "https://xn--bcher-kva.example/",
        "https://a_b.example.com/",
        "https://1password.com/",
        "https://hooks.example.co.uk/services/T0/B0/x%20y",
    ],
)
def test_an_ordinary_url_is_taken(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "refusal"),
    [
        ("", Refusal.SCHEME),
        ("example.com/hook", Refusal.SCHEME),
        ("//example.com/hook", Refusal.SCHEME),
        ("ftp://example.com/", Refusal.SCHEME),
        ("file:///etc/passwd", Refusal.SCHEME),
        ("gopher://example.com/", Refusal.SCHEME),
        ("javascript:alert(1)", Refusal.SCHEME),
        ("https://", Refusal.MALFORMED),
        ("https:///hook", Refusal.MALFORMED),
        ("https://example.com:99999/", Refusal.MALFORMED),
        ("https://example.com:abc/", Refusal.MALFORMED),
        ("https://exa mple.com/", Refusal.MALFORMED),
        ("https://example.com/\r\nHost: evil", Refusal.MALFORMED),
        ("https://example.com\\@evil.com/", Refusal.MALFORMED),
        ("\thttps://example.com/", Refusal.MALFORMED),
        ("https://[::1", Refusal.MALFORMED),
        ("https://user@example.com/", Refusal.USERINFO),
        ("https://user:password@example.com/", Refusal.USERINFO),
        ("https://@example.com/", Refusal.USERINFO),
        ("https://example.com/#part", Refusal.FRAGMENT),
        ("https://example.com/#", Refusal.FRAGMENT),
        ("https://example.com:0/", Refusal.PORT),
        ("https://example.com:22/", Refusal.PORT),
        ("https://example.com:25/", Refusal.PORT),
        ("https://example.com:1023/", Refusal.PORT),
        ("https://2130706433/", Refusal.HOST_FORM),
        ("https://0x7f000001/", Refusal.HOST_FORM),
        ("https://0x7f.0.0.1/", Refusal.HOST_FORM),
        ("https://0177.0.0.1/", Refusal.HOST_FORM),
        ("https://127.0.0.01/", Refusal.HOST_FORM),
        ("https://127.1/", Refusal.HOST_FORM),
        ("https://1.2.3.4.5/", Refusal.HOST_FORM),
        ("https://example.0x1/", Refusal.HOST_FORM),
        ("https://127.0.0.1./", Refusal.HOST_FORM),
        ("https://example.com./", Refusal.HOST_FORM),
        ("https://exa%6dple.com/", Refusal.HOST_FORM),
        ("https://-example.com/", Refusal.HOST_FORM),
        ("https://a..b/", Refusal.HOST_FORM),
        ("https://" + "a" * 64 + ".com/", Refusal.HOST_FORM),
        ("https://127.0.0.1/", Refusal.NOT_PUBLIC),
        ("https://１２７.0.0.1/", Refusal.NOT_PUBLIC),
        ("https://127。0。0。1/", Refusal.NOT_PUBLIC),
        ("https://[::1]/", Refusal.NOT_PUBLIC),
        ("https://[::ffff:127.0.0.1]/", Refusal.NOT_PUBLIC),
        ("https://[64:ff9b::7f00:1]/", Refusal.NOT_PUBLIC),
        ("https://[fe80::1%25eth0]/", Refusal.NOT_PUBLIC),
        ("http://169.254.169.254/latest/meta-data/", Refusal.NOT_PUBLIC),
        ("http://localhost:8080/", Refusal.NOT_PUBLIC),
        ("http://a.localhost/", Refusal.NOT_PUBLIC),
        ("https://example.com/" + "a" * 2048, Refusal.TOO_LONG),
    ],
)
def test_a_url_that_must_not_be_called_is_refused_with_its_reason(url: str, refusal: Refusal) -> None:
    with pytest.raises(ForbiddenAddressError) as caught:
        check_url(url)
    assert caught.value.refusal is refusal
    assert str(caught.value).endswith(".")


@given(st.text() | st.text("htps:/@[]%.0x17af\\#?。", max_size=30).map(lambda text: "https://" + text))
def test_no_text_is_answered_with_another_error(text: str) -> None:
    try:
        url = check_url(text)
    except ForbiddenAddressError:
        return
    assert url.user is None
    assert url.raw_host


def test_the_lab_may_allow_loopback_and_nothing_else_private() -> None:
    check_url("http://127.0.0.1:18820/r/1", LAB)
    check_url("http://localhost:18820/r/1", LAB)
    for url in ("http://10.0.0.1:18820/", "http://169.254.169.254/", "http://127.1:18820/"):
        with pytest.raises(ForbiddenAddressError):
            check_url(url, LAB)


@pytest.mark.parametrize("exception", [{"allow_loopback": True}, {"trusted_hosts": frozenset({"sim-receivers"})}])
def test_outside_the_lab_profile_there_is_no_exception(exception: dict[str, bool | frozenset[str]]) -> None:
    with pytest.raises(ValueError, match="lab profile"):
        Policy(lab_profile=False, **exception)  # type: ignore[arg-type]  # the table mixes the fields' types


# --- what connects ------------------------------------------------------------------------------------------------


@dataclass
class Names:
    """A name server: each look-up of a name takes the next of its answers; the last one stays."""

    answers: dict[str, list[list[str]]]
    asked: list[str] = field(default_factory=list)

    def __call__(
        self, host: str, port: int, family: socket.AddressFamily
    ) -> Sequence[tuple[socket.AddressFamily, str]]:
        self.asked.append(host)
        rounds = self.answers.get(host)
        if rounds is None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown name")
        found = rounds.pop(0) if len(rounds) > 1 else rounds[0]
        return [(socket.AF_INET6 if ":" in one else socket.AF_INET, one) for one in found]


@dataclass
class Seen:
    """What a receiver was sent."""

    port: int
    hosts: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)


@asynccontextmanager
async def receiver(redirect_to: str | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Seen]:
    async def handle(request: web.Request) -> web.Response:
        seen.hosts.append(request.headers["Host"])
        if redirect_to is not None:
            return web.Response(status=307, headers={"Location": redirect_to})
        return web.Response(text="thank you")

    app = web.Application()
    app.router.add_post("/{rest:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    assert site._server is not None
    seen = Seen(site._server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]  # AbstractServer does not declare it
    if tls is not None:
        tls.sni_callback = lambda _, name, __: seen.names.append(name)
    try:
        yield seen
    finally:
        await runner.cleanup()


@asynccontextmanager
async def session(names: Names, policy: Policy = PUBLIC_ONLY) -> AsyncIterator[aiohttp.ClientSession]:
    connector = guarded_connector(policy, lookup=names)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as client:
        yield client


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        ["8.8.8.8", "127.0.0.1"],
        ["10.0.0.1", "8.8.8.8"],
        ["::1"],
        ["64:ff9b::7f00:1"],
        ["2606:4700::1", "fe80::1"],
    ],
)
async def test_one_address_that_is_not_public_spoils_the_whole_answer(answer: list[str]) -> None:
    async with session(Names({"mixed.example": [answer]})) as client:
        with pytest.raises(ForbiddenAddressError) as caught:
            await client.post("http://mixed.example/", allow_redirects=False)
    assert caught.value.refusal is Refusal.NOT_PUBLIC


async def test_a_literal_address_is_judged_although_nobody_resolves_it() -> None:
    async with receiver() as seen, session(Names({})) as client:
        for host in ("127.0.0.1", "[::ffff:127.0.0.1]"):
            with pytest.raises(ForbiddenAddressError):
                await client.post(f"http://{host}:{seen.port}/", allow_redirects=False)
    assert seen.hosts == []


async def test_a_name_that_changes_its_address_after_the_check_is_not_connected_to() -> None:
    names = Names({"rebind.example": [["8.8.8.8"], ["127.0.0.1"]]})
    resolver = GuardedResolver(PUBLIC_ONLY, names)
    first = await resolver.resolve("rebind.example", 80)
    assert [found["host"] for found in first] == ["8.8.8.8"]
    with pytest.raises(ForbiddenAddressError):
        await resolver.resolve("rebind.example", 80)
    await resolver.close()


async def test_name_servers_that_never_answer_hold_up_no_name_that_has_answered() -> None:
    gate = threading.Event()

    def lookup(host: str, port: int, family: socket.AddressFamily) -> list[tuple[socket.AddressFamily, str]]:
        del port, family
        if host.startswith("silent"):
            gate.wait(30)
        return [(socket.AF_INET, "8.8.8.8")]

    resolver = GuardedResolver(PUBLIC_ONLY, lookup)
    await resolver.resolve("good.example", 80)
    silent = [asyncio.create_task(resolver.resolve(f"silent-{number}.example", 80)) for number in range(100)]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            assert len(await resolver.resolve("good.example", 80)) == 1
    finally:
        gate.set()
        await asyncio.gather(*silent, return_exceptions=True)
        await resolver.close()


async def test_a_connection_resolves_once_and_goes_to_the_address_that_was_checked() -> None:
    async with receiver() as seen:
        names = Names({"rebind.example": [["127.0.0.1"], ["169.254.169.254"]]})
        async with session(names, LAB) as client, client.post(f"http://rebind.example:{seen.port}/x") as answer:
            assert answer.status == 200
    assert names.asked == ["rebind.example"]


async def test_the_host_header_is_the_name_and_not_the_address() -> None:
    async with receiver() as seen:
        names = Names({"hooks.example": [["127.0.0.1"]]})
        async with session(names, LAB) as client, client.post(f"http://hooks.example:{seen.port}/x"):
            pass
    assert seen.hosts == [f"hooks.example:{seen.port}"]


async def test_tls_asks_for_the_name_and_verifies_the_certificate_against_it(tmp_path: Path) -> None:
    server, client_side = _certificate_for("hooks.example", tmp_path)
    names = Names({"hooks.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]})
    async with receiver(tls=server) as seen, session(names, LAB) as client:
        async with client.post(f"https://hooks.example:{seen.port}/x", ssl=client_side) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.post(f"https://other.example:{seen.port}/x", ssl=client_side)
    assert seen.names == ["hooks.example", "other.example"]
    assert seen.hosts == [f"hooks.example:{seen.port}"]


async def test_a_redirect_to_a_private_address_ends_at_the_guard_even_if_it_is_followed() -> None:
    async with receiver(redirect_to="http://169.254.169.254/latest") as seen, session(Names({}), LAB) as client:
        async with client.post(f"http://127.0.0.1:{seen.port}/", allow_redirects=False) as answer:
            assert answer.status == 307
        with pytest.raises(ForbiddenAddressError):
            await client.post(f"http://127.0.0.1:{seen.port}/")


async def test_a_proxy_from_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with receiver() as seen, session(Names({}), LAB) as client:
        answer = await client.post(f"http://127.0.0.1:{seen.port}/")
        assert answer.status == 200
        answer.release()


async def test_a_name_without_an_address_is_an_error_of_the_network_and_not_of_the_guard() -> None:
    async with session(Names({"empty.example": [[]]})) as client:
        for name in ("unknown.example", "empty.example"):
            with pytest.raises(aiohttp.ClientConnectorDNSError):
                await client.post(f"http://{name}/")


async def test_a_trusted_host_of_the_lab_may_have_a_private_address_and_its_neighbours_may_not() -> None:
    policy = Policy(lab_profile=True, trusted_hosts=frozenset({"sim-receivers"}))
    names = Names({"sim-receivers": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]})
    async with receiver() as seen, session(names, policy) as client:
        async with client.post(str(check_url(f"http://sim-receivers:{seen.port}/r/1", policy))) as answer:
            assert answer.status == 200
        with pytest.raises(ForbiddenAddressError):
            await client.post(f"http://other.example:{seen.port}/r/1")


def test_the_systems_resolver_knows_localhost() -> None:
    assert (socket.AF_INET, "127.0.0.1") in system_lookup("localhost", 80, socket.AF_INET)


def _certificate_for(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem, secret)
    return server, ssl.create_default_context(cafile=str(pem))
