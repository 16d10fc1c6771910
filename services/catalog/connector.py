"""What Kafka Connect is told: Debezium's connector for the catalogue's database. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from services.contracts.catalog import LEFT_OUT
from services.contracts.topics import CATALOG_CDC_HEARTBEAT, CATALOG_PRODUCT_CHANGES, CATALOG_REFERENCE_CHANGES

CDC_ROLE = "catalog_cdc"
PUBLICATION = "catalog_search"
HEARTBEATS = "heartbeats"
BEAT = (
    f"INSERT INTO {HEARTBEATS} (id, at) VALUES (1, clock_timestamp()) "  # noqa: S608  # constants
    "ON CONFLICT (id) DO UPDATE SET at = clock_timestamp()"
)
"""A change of our own, so that the log of an idle database moves on past what other databases of the server write."""

BY_PRODUCT = ("products", "variants")
REFERENCE = ("brands", "categories")


@dataclass(frozen=True, slots=True)
class Names:
    """`prefix` is the lab's; two runs on one server and one broker do not meet."""

    prefix: str

    @property
    def connector(self) -> str:
        return f"{self.prefix}catalog"

    @property
    def slot(self) -> str:
        return f"{self.prefix}catalog_search"


def configuration(
    names: Names, database_url: str, *, snapshot: str = "initial", poll_ms: int = 20, heartbeat_ms: int = 5_000
) -> dict[str, str]:
    """All settings of the connector, with the password in `database.password`. Raises ValueError for another kind of URL."""
    url = urlsplit(database_url)
    if not (url.hostname and url.username and url.password and url.path.strip("/")):
        raise ValueError("the database's URL needs a host, a user, a password and a database")
    settings = {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": url.hostname,
        "database.port": str(url.port or 5432),
        "database.user": unquote(url.username),
        "database.password": unquote(url.password),
        "database.dbname": unquote(url.path.strip("/")),
        "topic.prefix": names.connector,
    }
    return settings | _log(names) | _snapshot(snapshot) | _pace(poll_ms, heartbeat_ms) | _records(names)


def _log(names: Names) -> dict[str, str]:
    return {
        "plugin.name": "pgoutput",
        "publication.name": PUBLICATION,
        "publication.autocreate.mode": "disabled",
        "slot.name": names.slot,
        "slot.drop.on.stop": "false",
        # After a kill the server may take a moment to see that the old reader is gone.
        "slot.max.retries": "60",
        "slot.retry.delay.ms": "1000",
        # A slot that stands behind what we have read, or was made anew, fails the task: a gap is never passed over.
        "offset.mismatch.strategy": "trust_offset",
        "log.position.check.enable": "true",
        "table.include.list": ",".join(f"public.{table}" for table in (*BY_PRODUCT, *REFERENCE)),
        "column.exclude.list": ",".join(
            f"public.{table}.{column}" for table, columns in LEFT_OUT.items() for column in columns
        ),
    }


def _snapshot(mode: str) -> dict[str, str]:
    """`initial` when there is no offset, and never again by itself: a lost slot fails the task, see cdc.py."""
    return {"snapshot.mode": mode, "snapshot.fetch.size": "5000"}


def _pace(poll_ms: int, heartbeat_ms: int) -> dict[str, str]:
    return {
        "poll.interval.ms": str(poll_ms),
        "max.batch.size": "2048",
        "max.queue.size": "8192",
        "max.queue.size.in.bytes": str(32 << 20),
        "heartbeat.interval.ms": str(heartbeat_ms),
        "heartbeat.action.query": BEAT,
        "status.update.interval.ms": "1000",
        # A database that is away is asked again each second, for as long as it takes.
        "retriable.restart.connector.wait.ms": "1000",
        "errors.max.retries": "-1",
        "producer.override.acks": "all",
        "producer.override.batch.size": "131072",
    }


def _records(names: Names) -> dict[str, str]:
    """Key and topic of a record: `<connector>.public.<table>` becomes one of ours, its key the id alone."""
    table = re.escape(names.connector) + r"\.public\."
    product, reference = "|".join(BY_PRODUCT), "|".join(REFERENCE)
    heartbeat = r"__debezium-heartbeat\." + re.escape(names.connector)
    return {
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "message.key.columns": "public.variants:product_id",
        # A variant's tombstone would have the product's key, and compaction would forget a product that lives.
        "tombstones.on.delete": "false",
        "predicates": "row,variant",
        "predicates.row.type": "org.apache.kafka.connect.transforms.predicates.TopicNameMatches",
        "predicates.row.pattern": f"{table}({product}|{reference})",
        "predicates.variant.type": "org.apache.kafka.connect.transforms.predicates.TopicNameMatches",
        "predicates.variant.pattern": f"{table}variants",
        "transforms": "rename,id,products,reference,heartbeat",
        "transforms.rename.type": "org.apache.kafka.connect.transforms.ReplaceField$Key",
        "transforms.rename.renames": "product_id:id",
        "transforms.rename.predicate": "variant",
        "transforms.id.type": "org.apache.kafka.connect.transforms.ExtractField$Key",
        "transforms.id.field": "id",
        "transforms.id.predicate": "row",
        **_route("products", f"{table}({product})", names.prefix + CATALOG_PRODUCT_CHANGES.name),
        **_route("reference", f"{table}({reference})", names.prefix + CATALOG_REFERENCE_CHANGES.name),
        **_route("heartbeat", heartbeat, names.prefix + CATALOG_CDC_HEARTBEAT.name),
    }


def _route(name: str, pattern: str, topic: str) -> dict[str, str]:
    return {
        f"transforms.{name}.type": "org.apache.kafka.connect.transforms.RegexRouter",
        f"transforms.{name}.regex": pattern,
        f"transforms.{name}.replacement": topic,
    }
