"""The template: a promise to a client, and a store that stands still."""

from __future__ import annotations

from collections.abc import Sequence

from labs.engine import (
    Discriminates,
    Evidence,
    Lab,
    Load,
    Settled,
    StoryLine,
    Variant,
    VariantRole,
    at,
    error_rate,
    p99,
)
from labs.faults import pause
from labs.invariants.notes import acknowledged_is_kept, notes_by_key, statements_under_way


async def story(evidence: Evidence, key: str) -> Sequence[StoryLine]:
    """The store's part; the engine adds the client's and the faults."""
    found = "has it" if key in await notes_by_key(evidence) else "has no row with this key"
    return [StoryLine(evidence.window[1], "table", found)]


def variant(name: str, role: VariantRole, title: str, *, on_request: bool = False) -> Variant:
    """One program each, and they share the store."""
    service = f"week00-day1-{name}"
    roles = {"sut": service, "database": "postgres"}
    return Variant(role=role, title=title, roles=roles, processes=(service,), on_request=on_request)


LAB = Lab(
    week=0,
    day=1,
    title="Acknowledged",
    question="A service keeps notes, and its database stands still for six seconds. How many notes that it called kept are gone?",
    hypothesis=(
        "What is acknowledged before it is committed is lost when the commit does not come, and nobody is told. What is"
        " acknowledged after its commit is there; the others are told in time that nobody knows."
    ),
    explanation=(
        "Writing in the background makes the answer fast by making it mean less: 201 says that the service has *heard* of the note."
        " When the store does not answer, the write times out, a line goes to the log, and the client believes what it was"
        " told. The engineered program answers after the commit. While the store stands still it cannot promise anything and says"
        " so within its deadline; under the same key the client may ask again."
    ),
    variants={
        "naive": variant("naive", VariantRole.NAIVE, "say yes, then write in the background"),
        "engineered": variant("engineered", VariantRole.ENGINEERED, "write, commit, then say yes"),
        "yours": variant("yours", VariantRole.ENGINEERED, "labs/template/yours_day1.py", on_request=True),
    },
    load=Load("loadtests/notes.py", rate=50, seconds=30),
    steady_state=(error_rate(below=0.01), p99(below_ms=500)),
    faults=(at(3, pause("database"), lasting=6),),
    settled=(Settled("store_has_nothing_to_do", statements_under_way, within=10),),
    invariants=(acknowledged_is_kept,),
    discriminates=Discriminates(acknowledged_is_kept, at_least=20),
    infrastructure=("postgres", "prometheus"),
    found=notes_by_key,
    story=story,
    try_next=(
        "Be more patient: PATIENCE_SECONDS = 5 in naive_notes.py. How many are lost now, and which of them?",
        "Stand still for a tenth of a second: lasting=0.1. Does the naive program hold, and would you ship it then?",
        "Kill instead: at(3, kill('sut', down=1)). Which notes does the naive program lose now, and can the lab still tell?",
    ),
)
