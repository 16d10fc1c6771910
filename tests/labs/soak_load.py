"""Stands for one load of a soak and the system behind it: what its world's folder says becomes of each operation.

`late` makes it send late, `dies` ends it, `fails` fails what comes while it lies there, `loses` acknowledges what it does not do.
A file `NAME-what` is meant for the load whose keys begin with NAME only.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("rate", "seed", "history", "live", "run", "world"):
        parser.add_argument(f"--{name}")
    chosen, _ = parser.parse_known_args()
    world, ended = Path(chosen.world), []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))

    def says(what: str) -> bool:
        return (world / what).exists() or (world / f"{chosen.run}-{what}").exists()

    begun, number = time.monotonic(), 0
    with (
        Path(chosen.history).open("a", buffering=1) as history,
        Path(chosen.live).open("a", buffering=1) as live,
        (world / "done.jsonl").open("a", buffering=1) as done,
    ):
        while not ended:
            if says("dies"):
                return 1
            intended = begun + number / float(chosen.rate)
            time.sleep(max(0.0, intended - time.monotonic()))
            key, fails = f"{chosen.run}-{number:06d}", says("fails")
            if not fails and not says("loses"):
                done.write(json.dumps({"key": key}) + "\n")
            sent = intended + (0.3 if says("late") else 0.0)
            operation = {
                "id": str(number), "key": key, "kind": "thing", "intended_at": intended, "sent_at": sent, "done_at": sent + 0.003,
                "attempts": 1, "status": 500 if fails else 201, "outcome": "fail" if fails else "ok", "error": None, "result": {},
            }  # fmt: skip
            history.write(json.dumps(operation) + "\n")
            second = {"sent": 1, "done": 1, "ok": 1, "fail": 0, "unknown": 0, "in_flight": 0, "p99_ms": 3.0}
            live.write(json.dumps({"at": time.monotonic(), **second}) + "\n")
            number += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
