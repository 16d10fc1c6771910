"""Run folders as the engine leaves them, planted by tests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from labs.engine.model import Verdict
from labs.verdicts.record import Broken, Held, Record

STARTED = "2026-03-04T05:06:07.123456+00:00"


def plant(
    runs: Path,
    *,
    lab: str = "week02-day2",
    seed: int = 42,
    started_at: str = STARTED,
    verdict: str = "pass",
    seconds: float | None = 151.6,
    violations: int = 156,
    held: int = 7,
    judged: int = 7,
    experiment: dict[str, Any] | None = None,
) -> Path:
    """One run of a naive and an engineered variant. `experiment` replaces fields of experiment.json."""
    name = started_at[:19].replace("-", "").replace(":", "")
    folder = runs / lab / f"{name}Z-seed{seed}"
    folder.mkdir(parents=True)
    planned = {"main": {"faults": [], "discriminates": "charged_exactly_once", "at_least": 5}}
    described = {
        "schema": 1,
        "lab": lab,
        "runtime": "native",
        "seed": seed,
        "short": False,
        "options": {},
        "started_at": started_at,
        "commit": "cbe86ae",
        "variants": {"naive": {"role": "naive"}, "engineered": {"role": "engineered"}},
        "scenarios": planned,
        **(experiment or {}),
    }
    variants = {
        "naive": _variant("naive", {"charged_exactly_once": violations, "ledger_balances": None}),
        "engineered": _variant("engineered", {f"invariant_{n}": int(n >= held) for n in range(judged)}),
    }
    document = {
        "schema": 1,
        "lab": lab,
        "verdict": verdict,
        "seconds": seconds,
        "reasons": [],
        "metrics": {},
        "variants": variants,
        "scenarios": {"main": {"variants": variants}},
    }
    (folder / "experiment.json").write_text(json.dumps(described))
    (folder / "verdict.json").write_text(json.dumps(document))
    return folder


def _variant(role: str, invariants: dict[str, int | None]) -> dict[str, Any]:
    parts: dict[str, dict[str, Any]] = {
        name: {
            "status": "not_applicable" if count is None else "broken" if count else "held",
            "count": count or 0,
            "offenders": [],
        }
        for name, count in invariants.items()
    }
    verdict = "fail" if any(invariants.values()) else "pass"
    return {"role": role, "verdict": verdict, "invariants": parts, "latency_ms": None, "recovery_seconds": None}


def written_at(folder: Path, moment: float) -> None:
    """Seconds since 1970."""
    os.utime(folder / "verdict.json", (moment, moment))


def fact(**changed: Any) -> Record:
    """A record as `plant` leaves it."""
    fields: dict[str, Any] = {
        "lab": "week02-day2",
        "runtime": "native",
        "seed": 42,
        "started_at": "2026-03-04T05:06:07Z",
        "commit": "cbe86ae",
        "seconds": 152,
        "verdict": Verdict.PASS,
        "naive": [broken("charged_exactly_once", 156)],
        "engineered": Held(held=7, judged=7),
        "stand_ins": [],
    }
    return Record(**{**fields, **changed})


def broken(invariant: str, violations: int, *, scenario: str = "main", variant: str = "naive") -> Broken:
    return Broken(scenario=scenario, variant=variant, invariant=invariant, violations=violations)
