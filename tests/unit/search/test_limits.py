"""Who a client is, and how much it may ask for."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from services.search.limits import LONGEST_NAME, ClientLimits, client_of
from services.search.problems import RateLimited


def request(**headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": pairs, "client": ("10.0.0.7", 5)})


def test_a_client_is_its_address_unless_a_gateway_names_it() -> None:
    assert client_of(request(x_client="a"), "") == "address 10.0.0.7"
    assert client_of(request(x_client="a"), "x-client") == "name a"
    assert client_of(request(), "x-client") == "address 10.0.0.7"
    assert len(client_of(request(x_client="a" * 5000), "x-client")) <= LONGEST_NAME + 5


def test_nobody_can_take_an_address_for_a_name() -> None:
    assert client_of(request(x_client="address 10.0.0.7"), "x-client") != client_of(request(), "x-client")


def test_of_many_clients_the_ones_seen_last_are_known() -> None:
    limits = ClientLimits(1, 1, lambda: 0.0, most=2)
    for client in "ab":
        limits.admit(client)
    with pytest.raises(RateLimited):
        limits.admit("a")
    limits.admit("c")
    with pytest.raises(RateLimited):
        limits.admit("a")
    limits.admit("b")
