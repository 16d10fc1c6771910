"""`python -m infra.native.warm TOOLS KAFKA_VERSION`: what set-up prepares once so that later starts are quick."""

from __future__ import annotations

import sys
from pathlib import Path

from infra.native.free_ports import free_ports
from infra.native.recipes import search
from infra.native.recipes.kafka import Java, minimal_environment, train_start_cache

ROOT = Path(__file__).resolve().parents[2]


def main(tools: Path, kafka_version: str) -> None:
    java = Java(tools, kafka_version)
    if not java.aot.exists():
        java.cache.mkdir(parents=True, exist_ok=True)
        train_start_cache(java, minimal_environment(*free_ports(2)), java.cache / "kafka-training")
    search.train_start_cache(ROOT, tools, *free_ports(2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
