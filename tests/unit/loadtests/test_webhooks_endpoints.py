from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest

from loadtests.client import Answer
from loadtests.webhooks_client import Publisher
from loadtests.webhooks_endpoints import EndpointsProblem, Subscribers


@dataclass
class Service:
    """Keeps endpoints and lists them two a page, whatever limit is asked for."""

    urls: list[str] = field(default_factory=list)
    orders: list[dict[str, object]] = field(default_factory=list)
    refuses: Answer | None = None
    lists: bytes | None = None

    def post(self, path: str, body: str, headers: Mapping[str, str]) -> Answer:
        assert (path, headers["Authorization"]) == ("/v1/endpoints", "Bearer key")
        if self.refuses is not None:
            return self.refuses
        order = json.loads(body)
        self.orders.append(order)
        self.urls.append(order["url"])
        return Answer(201, {}, b"{}")

    def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        assert headers["Authorization"] == "Bearer key"
        if self.lists is not None:
            return Answer(200, {}, self.lists)
        start = int(parse_qs(urlsplit(path).query).get("cursor", ["0"])[0])
        page = {"data": [{"url": url, "id": "ep_1"} for url in self.urls[start : start + 2]]}
        more = start + 2 < len(self.urls)
        return Answer(200, {}, json.dumps(page | {"next_cursor": str(start + 2) if more else None}).encode())


def subscribers(service: Service) -> Subscribers:
    return Subscribers(service, "key", "http://receivers:1/", "master", 3, "lab.group")


def test_receivers_are_subscribed_to_their_types_with_the_secret_that_they_verify() -> None:
    service = Service()
    assert subscribers(service).register(5) == 5
    assert service.urls == [f"http://receivers:1/r/{number}" for number in range(1, 6)]
    assert [order["event_types"] for order in service.orders][:3] == [["lab.group1"], ["lab.group2"], ["lab.group0"]]
    secrets = {str(order["secret"]) for order in service.orders}
    assert len(secrets) == 5
    assert all(secret.startswith("whsec_") for secret in secrets)


def test_a_second_load_registers_only_what_is_missing_over_all_pages() -> None:
    service = Service()
    subscribers(service).register(5)
    assert subscribers(service).register(7) == 2
    assert len(service.urls) == len(set(service.urls)) == 7


@pytest.mark.parametrize(
    ("service", "sentence"),
    [
        (Service(refuses=Answer(422, {}, b"{}")), "Endpoint 1 was not registered: HTTP 422."),
        (Service(refuses=Answer(None, {}, b"", "TimeoutError")), "Endpoint 1 was not registered: TimeoutError."),
        (Service(lists=b"<html>"), "The endpoints could not be listed: HTTP 200."),
        (Service(lists=b'{"data": [{}]}'), "The endpoints could not be listed: HTTP 200."),
    ],
)
def test_a_refusal_is_a_sentence(service: Service, sentence: str) -> None:
    with pytest.raises(EndpointsProblem) as told:
        subscribers(service).register(1)
    assert str(told.value) == sentence


def drawn(skew: float, types: int = 25) -> Counter[str]:
    seen: list[str] = []

    @dataclass
    class Api:
        def post(self, path: str, body: str, headers: Mapping[str, str]) -> Answer:
            del path, headers
            seen.append(json.loads(body)["event_type"])
            return Answer(400, {}, b"{}")

        def get(self, path: str, headers: Mapping[str, str]) -> Answer:
            raise NotImplementedError

    publisher = Publisher(Api(), None, "key", types, 0.0, random.Random(7), lambda: 0.0, lambda _: None, skew)
    for number in range(5000):
        publisher.publish(f"k-{number}")
    return Counter(seen)


def test_types_follow_zipfs_law_if_asked_and_are_even_otherwise() -> None:
    even, skewed = drawn(0), drawn(1)
    assert len(even) == len(skewed) == 25
    assert max(even.values()) < 1.5 * min(even.values())
    assert skewed["lab.group0"] / 5000 == pytest.approx(0.262, abs=0.02)
    assert skewed["lab.group0"] / skewed["lab.group9"] == pytest.approx(10, rel=0.3)
