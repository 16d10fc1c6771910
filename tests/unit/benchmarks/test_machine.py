from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from benchmarks import machine

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """With one commit of code, a page and facts."""
    (tmp_path / "docs").mkdir()
    for name in ("code.py", "README.md", "docs/benchmarks.json"):
        (tmp_path / name).write_text("1")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=first")
    return tmp_path


def git(where: Path, *words: str) -> None:
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(["git", *who, *words], cwd=where, check=True)


def test_a_commit_is_clean_while_only_what_benchmarks_write_differs(checkout: Path) -> None:
    clean = machine.commit(checkout)
    assert clean is not None
    assert len(clean) == 7
    for name in ("README.md", "docs/benchmarks.json"):
        (checkout / name).write_text("2")
    assert machine.commit(checkout) == clean
    (checkout / "code.py").write_text("2")
    assert machine.commit(checkout) == f"{clean}-dirty"


def test_outside_a_checkout_no_commit_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert machine.commit(tmp_path) is None


def test_the_machine_is_described_without_the_name_of_a_host_or_the_suffix_of_a_kernel(tmp_path: Path) -> None:
    found = machine.machine(tmp_path)
    assert found.cores >= 1
    assert found.kernel == platform.release()[: len(found.kernel)]
    assert set(found.kernel) <= set("0123456789.")
    assert platform.node() not in found.disk
    assert str(tmp_path) not in found.disk
    assert found.disk.endswith(" GiB")


def test_a_durable_write_takes_some_time_and_leaves_nothing(tmp_path: Path) -> None:
    assert machine.around(tmp_path).sync_ms > 0
    assert list(tmp_path.iterdir()) == []


def test_the_foreign_servers_behind_services_are_found_with_what_they_depend_on() -> None:
    found = machine.images(ROOT, ["payments-api", "search-indexer"])
    assert any(image.startswith("postgres:") for image in found)
    assert any("elasticsearch:" in image for image in found)
    assert not any(image.startswith("backend-lab") for image in found)


def test_docker_runs_what_the_tags_say() -> None:
    images = ["postgres:17.6", "apache/kafka:4.3.1", "docker.elastic.co/elasticsearch/elasticsearch:9.2.1", "prom/x:v1"]
    found = machine.versions(ROOT, "docker", images)
    assert found == {"Postgres": "17.6", "Kafka": "4.3.1", "search engine": "Elasticsearch 9.2.1"}


def test_natively_the_jars_tell_their_version(tmp_path: Path) -> None:
    jars = tmp_path / ".lab" / "jars"
    for name in ("search-1/opensearch-3.8.0.jar", "search-1/opensearch-core-3.9.9.jar", "search-1/opensearch-cli.jar"):
        (jars / name).parent.mkdir(parents=True, exist_ok=True)
        (jars / name).touch()
    found = machine.versions(
        tmp_path, "native", ["x/elasticsearch:9.2.1", "apache/kafka:4.3.1", "debezium/connect:3.6"]
    )
    assert found == {"search engine": "OpenSearch 3.8.0", "Kafka": "4.3.1", "Debezium": "not known"}


def test_a_server_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.versions(tmp_path, "native", ["redis:8.0"]) == {"Redis": "not known"}
