"""The native exporter of the search engine: what it exposes, and what it says to wrong arguments."""

from __future__ import annotations

from typing import Any

import pytest

from infra.native.search_exporter import exposition, main

HEALTH: dict[str, Any] = {
    "status": "yellow",
    "number_of_nodes": 2,
    "unassigned_shards": 1,
    "number_of_pending_tasks": 0,
}
NODE: dict[str, Any] = {
    "name": "search-engine",
    "jvm": {"mem": {"heap_used_in_bytes": 10, "heap_max_in_bytes": 40}},
    "thread_pool": {"search": {"rejected": 3, "queue": 2}, "generic": {"rejected": 9, "queue": 9}},
    "fs": {"data": [{"mount": "/", "available_in_bytes": 5, "total_in_bytes": 50}]},
    "indices": {
        "docs": {"count": 7},
        "store": {"size_in_bytes": 70},
        "search": {"query_total": 4, "query_time_in_millis": 1500},
    },
}


def lines(health: Any, nodes: Any) -> list[str]:
    return [line for line in exposition(health, nodes).decode().splitlines() if not line.startswith("#")]


def test_the_colour_the_cluster_has_is_1_and_the_others_are_0() -> None:
    shown = lines(HEALTH, {"nodes": {"x": NODE}})
    assert 'elasticsearch_cluster_health_status{color="yellow"} 1.0' in shown
    assert 'elasticsearch_cluster_health_status{color="red"} 0.0' in shown
    assert "elasticsearch_cluster_health_unassigned_shards 1.0" in shown


def test_heap_queues_and_disk_are_told_by_node() -> None:
    shown = lines(HEALTH, {"nodes": {"x": NODE}})
    assert 'elasticsearch_jvm_memory_used_bytes{area="heap",name="search-engine"} 10.0' in shown
    assert 'elasticsearch_thread_pool_rejected_count{name="search-engine",type="search"} 3.0' in shown
    assert 'elasticsearch_filesystem_data_available_bytes{mount="/",name="search-engine"} 5.0' in shown
    assert 'elasticsearch_indices_search_query_time_seconds{name="search-engine"} 1.5' in shown
    assert not [line for line in shown if "generic" in line]


def test_while_the_engine_is_away_there_is_nothing_else() -> None:
    assert lines(None, None) == ["elasticsearch_cluster_health_up 0.0"]


@pytest.mark.parametrize("words", [[], ["--es.uri=x", "--web.listen-address=nowhere"], ["--nonsense"]])
def test_wrong_arguments_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
