from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from infra.native.compose import ComposeFile, Service
from infra.native.recipes import Site, search
from infra.native.recipes.connect import jars_of, worker_properties
from infra.native.recipes.jaeger import JaegerRecipe
from infra.native.recipes.kafka import discard_half_formatted, install_format, is_formatted, server_properties
from infra.native.recipes.own import OwnRecipe, probe_target, with_port
from infra.runtime import RuntimeProblem

ROOT = Path(__file__).resolve().parents[3]


def service(name: str) -> Service:
    return ComposeFile(ROOT / "docker-compose.yml").resolve({}).service(name)


def test_kafka_variables_become_properties_as_in_the_official_image() -> None:
    env = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_LOG_DIRS": "/data",
        "KAFKA_A__B_C": "x",
        "KAFKA_SSL_KEYSTORE___NAME": "y",
        "KAFKA_HEAP_OPTS": "-Xmx1g",
        "CLUSTER_ID": "id",
    }
    assert server_properties(env) == {"node.id": "1", "log.dirs": "/data", "a_b.c": "x", "ssl.keystore-name": "y"}


def test_connect_variables_become_properties_as_in_the_official_image() -> None:
    properties = worker_properties(service("connect").environment)
    assert properties["bootstrap.servers"] == "kafka:17099"
    assert properties["group.id"] == "connect"
    assert properties["config.storage.replication.factor"] == "1"
    assert properties["listeners"] == "http://0.0.0.0:17083"
    assert properties["rest.advertised.port"] == "17083"
    assert "heap.opts" not in properties


def test_without_jars_connect_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeProblem, match=r"Kafka Connect's jars are not in .*; run infra/setup\.sh"):
        jars_of(ROOT, tmp_path)


def test_the_search_engine_starts_from_its_cache_where_set_up_made_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert search.start_cache(tmp_path, home) == []
    file = search.cache_file(tmp_path, home)
    file.parent.mkdir()
    file.touch()
    assert search.start_cache(tmp_path, home) == [f"-XX:AOTCache={file}"]
    assert search.start_cache(tmp_path, tmp_path / "another version") == []


def test_without_jars_no_start_cache_is_trained_and_a_sentence_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeProblem, match=r"The search engine's jars are not in .*; run infra/setup\.sh"):
        search.train_start_cache(ROOT, tmp_path, 1, 2)


def test_a_kafka_folder_is_formatted_only_with_both_files_complete(tmp_path: Path) -> None:
    assert not is_formatted(tmp_path / "none")
    (tmp_path / "meta.properties").write_text("cluster.id=a\nnode.id=1\nversion=1\n")
    assert not is_formatted(tmp_path)
    (tmp_path / "bootstrap.checkpoint").write_bytes(b"x")
    assert is_formatted(tmp_path)
    (tmp_path / "meta.properties").write_text("cluster.id=a\n")
    assert not is_formatted(tmp_path)


def test_a_half_formatted_kafka_folder_without_messages_is_removed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "__cluster_metadata-0").mkdir(parents=True)
    (data / "__cluster_metadata-0" / "00000000000000000000.log").touch()
    discard_half_formatted(data)
    assert not data.exists()


def test_a_damaged_kafka_folder_with_messages_is_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "payments-0").mkdir(parents=True)
    (data / "payments-0" / "00000000000000000000.log").write_bytes(b"message")
    with pytest.raises(RuntimeProblem, match="holds messages"):
        discard_half_formatted(data)
    assert (data / "payments-0" / "00000000000000000000.log").read_bytes() == b"message"


def test_what_an_interrupted_copy_left_is_no_obstacle(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    (template / "meta.properties").write_text("whole")
    (tmp_path / "data.part").mkdir()
    (tmp_path / "data.part" / "meta.properties").write_text("ha")
    install_format(template, tmp_path / "data")
    assert (tmp_path / "data" / "meta.properties").read_text() == "whole"


def test_container_paths_are_replaced_where_a_path_begins() -> None:
    site = Site(
        Path("/r"), Path("/t"), Path("/d"), {"/etc/prometheus": Path("/here/etc"), "/prometheus": Path("/here/data")}
    )
    assert site.localise("--config.file=/etc/prometheus/prometheus.yml") == "--config.file=/here/etc/prometheus.yml"
    assert site.localise("--storage.tsdb.path=/prometheus") == "--storage.tsdb.path=/here/data"
    assert site.localise("/prometheus-other:/x/prometheus") == "/prometheus-other:/x/prometheus"


def test_our_processes_listen_on_what_they_publish_or_were_allotted() -> None:
    assert OwnRecipe().ports(service("payments-api")) == [18000]
    assert OwnRecipe().ports(service("payments-relay")) == [19000]
    assert OwnRecipe().ports(service("payments-migrate")) == []


def test_our_health_check_is_asked_directly() -> None:
    assert probe_target(service("sim-bank")) == (18800, "/health/ready")


def test_another_health_check_of_ours_is_refused() -> None:
    bank = service("sim-bank")
    assert bank.health is not None
    with pytest.raises(RuntimeProblem, match="sim-bank"):
        probe_target(dataclasses.replace(bank, health=dataclasses.replace(bank.health, test=("curl", "http://x"))))


def test_a_workers_port_is_replaced_in_its_probe() -> None:
    assert with_port("http://127.0.0.1:19000/health/ready", "19000", "19007") == "http://127.0.0.1:19007/health/ready"
    assert with_port("http://127.0.0.1:190001/", "19000", "1") == "http://127.0.0.1:190001/"


def test_jaeger_is_the_labs_own_receiver_on_both_ports(tmp_path: Path) -> None:
    jaeger = service("jaeger")
    launch = JaegerRecipe().prepare(jaeger, Site(ROOT, ROOT / ".lab", tmp_path / "data", {}))
    assert launch.argv[1:] == ("-m", "labs.console.otlp")
    assert (launch.env["HTTP_PORT"], launch.env["OTLP_HTTP_PORT"]) == ("17686", "17318")
    assert launch.env["HTTP_HOST"] == "127.0.0.1"
    assert JaegerRecipe().ports(jaeger) == [17686, 17318]


def test_a_jaeger_without_its_second_port_is_a_sentence(tmp_path: Path) -> None:
    jaeger = dataclasses.replace(service("jaeger"), ports=service("jaeger").ports[:1])
    with pytest.raises(RuntimeProblem, match="must publish two ports"):
        JaegerRecipe().prepare(jaeger, Site(ROOT, ROOT / ".lab", tmp_path / "data", {}))


def test_traces_go_to_the_jaeger_of_the_project_only_when_they_are_asked_for() -> None:
    compose = ComposeFile(ROOT / "docker-compose.yml")

    def endpoint(**given: str) -> str:
        return compose.resolve(given).service("payments-api").environment["OTLP_ENDPOINT"]

    assert endpoint() == ""
    assert endpoint(TRACES="1", JAEGER_HOST="127.0.0.1", OTLP_HTTP_PORT="22318") == "http://127.0.0.1:22318"
    assert endpoint(TRACES="1") == "http://jaeger:17318"
    assert endpoint(TRACES="1", OTLP_ENDPOINT="http://elsewhere:4318") == "http://elsewhere:4318"
