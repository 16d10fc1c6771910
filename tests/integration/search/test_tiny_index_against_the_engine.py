"""The index of week 7's first day scores like the real engine, so that what one learns from it is true of the other."""

from __future__ import annotations

import http.client
import json
import random
from typing import Any

import pytest

from labs.week07.tiny_index import TinyIndex
from tests.servers import SearchServer

pytestmark = pytest.mark.integration

INDEX = {
    "settings": {
        "number_of_shards": 1,
        "number_of_replicas": 0,
        "analysis": {
            "tokenizer": {"words": {"type": "pattern", "pattern": "([A-Za-z0-9]+)", "group": 1}},
            "analyzer": {"tiny": {"type": "custom", "tokenizer": "words", "filter": ["lowercase"]}},
        },
    },
    "mappings": {"properties": {"text": {"type": "text", "analyzer": "tiny"}}},
}


def call(server: SearchServer, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status < 300, text
        return json.loads(text)
    finally:
        connection.close()


def test_scores_are_the_engines_up_to_one_constant_factor(search_server: SearchServer) -> None:
    rng = random.Random(7)
    words = [f"w{number}" for number in range(1000)]
    weights = [1 / (rank + 1) for rank in range(1000)]
    documents = [" ".join(rng.choices(words, weights, k=rng.choice([0, 3, 8, 20, 45, 200]))) for _ in range(2000)]
    documents[17] = "Red-Shoe X100, 3.5mm RED"
    index = TinyIndex()
    for text in documents:
        index.add(text)
    call(search_server, "PUT", "/tiny", json.dumps(INDEX).encode())
    lines = [
        f"{json.dumps({'index': {'_id': str(number)}})}\n{json.dumps({'text': text})}\n"
        for number, text in enumerate(documents)
    ]
    call(search_server, "POST", "/tiny/_bulk?refresh=true", "".join(lines).encode(), "application/x-ndjson")
    factors = []
    for query in [*(" ".join(rng.choices(words, k=rng.choice([1, 2, 4]))) for _ in range(100)), "red 5mm", "w1 w1 w2"]:
        body = {"size": 50, "query": {"match": {"text": query}}}
        hits = call(search_server, "POST", "/tiny/_search", json.dumps(body).encode())["hits"]["hits"]
        ours = {str(hit.document): hit.score for hit in index.search(query, len(documents))}
        assert len(hits) == min(50, len(ours))
        factors += [hit["_score"] / ours[hit["_id"]] for hit in hits]
    assert len(factors) > 1000
    assert factors == pytest.approx([factors[0]] * len(factors), rel=1e-4)
