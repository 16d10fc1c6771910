"""Stands for load generator and system in one: it sends nothing, and writes down what both would have.

While the file `fault` lies in its world, the variant of its port does what `world.json` says (a bug `since` the fault
stays; one `late_after_heal` comes a second and a half after it, one `hiccup_after_heal` then ends a second later);
otherwise all goes well.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import TextIO


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("host", "rate", "seconds", "seed", "history", "live", "max-in-flight", "world", "note"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--headless", action="store_true")
    chosen = parser.parse_args()
    world = Path(chosen.world)
    port = chosen.host.rpartition(":")[2]
    if chosen.note:
        (world / f"note-{port}").write_text(chosen.note)
    bugs = json.loads((world / "world.json").read_text()).get(port, {})
    ended: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    store_path = world / f"store-{port}.jsonl"
    with (
        Path(chosen.history).open("a", buffering=1) as history,
        Path(chosen.live).open("a", buffering=1) as live,
        store_path.open("a", buffering=1) as store,
    ):
        run(chosen, bugs, world / "fault", ended, history, live, store)
    return 0


def run(
    chosen: argparse.Namespace,
    bugs: dict[str, str],
    fault: Path,
    ended: list[bool],
    history: TextIO,
    live: TextIO,
    store: TextIO,
) -> None:
    begun, number, rate, faulted = time.monotonic(), 0, float(chosen.rate), False
    healed: float | None = None
    while not ended:
        intended = begun + number / rate
        time.sleep(max(0.0, intended - time.monotonic()))
        key = f"{chosen.seed}-{number}"
        lasting = fault.exists()
        healed = None if lasting else healed or (time.monotonic() if faulted else None)
        faulted = faulted or lasting
        since_heal = 0.0 if healed is None else time.monotonic() - healed
        bug = bugs.get("always") or (bugs.get("fault") if lasting else None) or (bugs.get("since") if faulted else None)
        bug = bug or (bugs.get("late_after_heal") if since_heal > 1.5 else None)
        bug = bug or (bugs.get("hiccup_after_heal") if 1.5 < since_heal < 2.5 else None)
        for _ in range({"lose": 0, "duplicate": 2, "error": 0}.get(bug or "", 1)):
            store.write(json.dumps({"key": key}) + "\n")
        outcome = "fail" if bug in ("contradict", "error") else "ok"
        sent = intended + (0.2 if bug == "late" else 0.0)
        operation = {
            "id": str(number), "key": key, "kind": "payment", "intended_at": intended, "sent_at": sent,
            "done_at": sent + 0.003, "attempts": 1, "status": 201 if outcome == "ok" else 500, "outcome": outcome,
            "error": None if outcome == "ok" else "refused", "result": {"payment": f"pay_{key}", "state": "captured"},
        }  # fmt: skip
        history.write(json.dumps(operation) + "\n")
        second = {"sent": 1, "done": 1, "ok": 1, "fail": 0, "unknown": 0, "in_flight": 0, "p99_ms": 3.0}
        live.write(json.dumps({"at": time.monotonic(), **second}) + "\n")
        number += 1


if __name__ == "__main__":
    sys.exit(main())
