"""Load on a notebook, open model: `locust -f loadtests/notes.py --headless --host URL --rate 50 --seconds 30`.

Arrivals: a Poisson process of --rate notes a second. Mix: only PUT /v1/notes/{key}, a new key each. Skew: none. Nobody retries.
"""

from __future__ import annotations

from loadtests.fasthttp import FastHttp
from loadtests.notes_client import NoteClient
from loadtests.open_load import FromSchedule, Idle, Operate, Options, System, install

__all__ = ["FromSchedule", "Idle"]


def _writer(options: Options) -> Operate:
    return NoteClient(FastHttp(options.host, concurrency=options.max_in_flight)).keep


install(System("note", _writer))
