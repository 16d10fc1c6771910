"""The native Kafka exporter: what it exposes, and what it says to wrong arguments."""

from __future__ import annotations

import pytest

from infra.native.free_ports import free_ports
from infra.native.kafka_exporter import Group, Partition, Snapshot, exposition, main


def lines(seen: Snapshot) -> list[str]:
    return [line for line in exposition(seen).decode().splitlines() if not line.startswith("#")]


def test_lag_is_what_is_there_and_not_committed() -> None:
    partitions = (Partition("t", 0, 1, (1,), (1,), 2, 10), Partition("t", 1, 1, (1, 2), (1,), 0, 4))
    shown = lines(Snapshot({1: "kafka:9092"}, partitions, (Group("g", 2, {("t", 0): 7, ("t", 1): 4}),)))
    assert 'kafka_consumergroup_lag{consumergroup="g",partition="0",topic="t"} 3.0' in shown
    assert 'kafka_consumergroup_lag_sum{consumergroup="g",topic="t"} 3.0' in shown
    assert 'kafka_consumergroup_members{consumergroup="g"} 2.0' in shown
    assert 'kafka_topic_partitions{topic="t"} 2.0' in shown
    assert 'kafka_topic_partition_under_replicated_partition{partition="1",topic="t"} 1.0' in shown
    assert 'kafka_topic_partition_oldest_offset{partition="0",topic="t"} 2.0' in shown


def test_a_commit_of_a_topic_that_is_gone_or_of_nothing_has_no_lag() -> None:
    shown = lines(Snapshot({1: "a"}, (), (Group("g", 0, {("gone", 0): 7, ("t", 0): -1}),)))
    assert not any(line.startswith("kafka_consumergroup_lag") for line in shown)


def test_a_commit_beyond_the_end_is_no_negative_lag() -> None:
    partition = Partition("t", 0, 1, (1,), (1,), 0, 3)
    shown = lines(Snapshot({1: "a"}, (partition,), (Group("g", 1, {("t", 0): 5}),)))
    assert 'kafka_consumergroup_lag{consumergroup="g",partition="0",topic="t"} 0.0' in shown


def test_while_kafka_is_away_there_are_no_brokers_and_nothing_else() -> None:
    assert lines(Snapshot()) == ["kafka_brokers 0.0"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--kafka.server=a:1", "--web.listen-address=nonsense"],
        ["--kafka.server=a:1", "--sasl.enabled"],
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_without_kafka_it_ends_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    kafka, listen = free_ports(2)
    assert main([f"--kafka.server=127.0.0.1:{kafka}", f"--web.listen-address=127.0.0.1:{listen}"]) == 1
    assert f"Kafka at 127.0.0.1:{kafka} does not answer" in capsys.readouterr().err
