"""A real Elasticsearch 7.10.2 for tests: the other engine whose API the lab keeps to. Skipped, with the reason, without Java 17."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.native.free_ports import reserve
from tests.integration.infra.stack import xdist_number
from tests.servers import ROOT, SHORT_LIVED

POM = ROOT / "infra" / "search" / "elasticsearch-pom.xml"
RUNNER = "org.codelibs.elasticsearch.runner.ElasticsearchClusterRunner"
PORTS = range(9201, 9300)
"""Its main class takes no others."""
READY_SECONDS = 180.0
FETCH_SECONDS = 240.0
_VERSION = re.compile(r'version "(\d+)')


def java_17() -> str | None:
    """The path of a Java 8 to 17: newer ones have no security manager, which this version wants."""
    homes = sorted(Path("/usr/lib/jvm").glob("*17*/bin/java")) if Path("/usr/lib/jvm").is_dir() else []
    named = [Path(os.environ["JAVA_HOME"], "bin", "java")] if os.environ.get("JAVA_HOME") else []
    found = shutil.which("java")
    for path in [*homes, *named, *([Path(found)] if found else [])]:
        if path.is_file():
            said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
            version = _VERSION.search(said)
            if version and 8 <= int(version[1]) <= 17:
                return str(path)
    return None


def jars() -> Path:
    """The folder of its jars, fetched by Maven the first time. Skips the test where that cannot be."""
    folder = ROOT / ".lab" / "jars" / f"elasticsearch-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "elasticsearch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder
        maven = shutil.which("mvn")
        if maven is None:
            pytest.skip("no Maven to fetch Elasticsearch 7.10.2 with")
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            argv = [
                maven,
                "-q",
                "-B",
                "-f",
                str(POM),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={scratch}/jars",
            ]
            try:
                done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS)
            except subprocess.TimeoutExpired:
                pytest.skip(f"Maven did not bring Elasticsearch 7.10.2 within {FETCH_SECONDS:g} s")
            if done.returncode:
                pytest.skip(f"Maven did not bring Elasticsearch 7.10.2: {done.stdout[-300:]}")
            Path(scratch, "jars").rename(folder)
    return folder


@contextmanager
def running_elasticsearch() -> Iterator[str]:
    """Its address. Dies with the test process."""
    java = java_17()
    if java is None:
        pytest.skip("no Java 17 for Elasticsearch 7.10.2")
    folder = Path(tempfile.mkdtemp(prefix="lab-test-elasticsearch-"))
    port = _free_port()
    argv = [
        "setpriv", "--pdeathsig", "KILL", java, "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", SHORT_LIVED,
        f"-Djava.io.tmpdir={folder}", "-cp", f"{jars()}/*", RUNNER,
        "-basePath", str(folder / "nodes"), "-numOfNode", "1", "-baseHttpPort", str(port - 1),
        "-clusterName", folder.name,  # servers of one name that start beside each other become one cluster
    ]  # fmt: skip
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder)
    try:
        _wait(process, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=0s")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise RuntimeError(f"Elasticsearch did not start:\n{log.read_text()[-2000:]}")


def _free_port() -> int:
    mine = PORTS[20 * xdist_number() % len(PORTS) :]  # another worker's server may start at the same instant
    for port in mine:
        if reserve(port):
            return port
    pytest.skip("no port from 9201 to 9299 is free for Elasticsearch 7.10.2")
