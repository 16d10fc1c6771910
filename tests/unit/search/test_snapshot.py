"""Versions grow with what a snapshot shows, and only then."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.search.snapshot import Snapshot


class Database:
    """Transactions as Postgres keeps them: ids in the order of first writes, and who is still running."""

    def __init__(self, first: int) -> None:
        self.next = first
        self.last_completed = first - 1
        self.running: set[int] = set()
        self.committed: set[int] = set()

    def begin(self) -> None:
        self.running.add(self.next)
        self.next += 1

    def commit(self, chance: random.Random) -> None:
        if self.running:
            xid = chance.choice(sorted(self.running))
            self.running.remove(xid)
            self.committed.add(xid)
            self.last_completed = max(self.last_completed, xid)

    def snapshot(self) -> Snapshot:
        xmax = self.last_completed + 1
        xip = sorted(each for each in self.running if each < xmax)
        return Snapshot.parse(f"{xip[0] if xip else xmax}:{xmax}:{','.join(map(str, xip))}")


@given(seed=st.integers(0, 2**32), first=st.sampled_from([3, 731, 2**32 - 5, 2**44]))
def test_a_version_grows_with_each_commit_and_stands_still_without_one(seed: int, first: int) -> None:
    chance, database = random.Random(seed), Database(first)
    before, seen = database.snapshot(), 0
    for _ in range(60):
        if chance.random() < 0.5:
            database.begin()
        else:
            database.commit(chance)
        after = database.snapshot()
        assert (after.version > before.version) == (len(database.committed) > seen)
        assert (after.version == before.version) == (len(database.committed) == seen)
        before, seen = after, len(database.committed)
        assert all(after.shows(xid) for xid in database.committed)
        assert all(after.shows(xid % 2**32) for xid in database.committed)
        assert not any(after.shows(xid % 2**32) for xid in database.running)


def test_versions_fit_into_the_engines_63_bits() -> None:
    assert 0 <= Snapshot(2**45 - 1, frozenset()).version < 2**63


def test_more_transactions_than_there_is_room_for_are_the_least_version_of_their_xmax() -> None:
    crowd = Snapshot(2**20, frozenset(range(300_000)))
    assert Snapshot(2**20 - 1, frozenset()).version < crowd.version < Snapshot(2**20, frozenset()).version


def test_an_id_of_the_log_from_before_the_wrap_is_shown() -> None:
    assert Snapshot(2**32 + 10, frozenset()).shows(2**32 - 1)
    assert not Snapshot(2**32 - 10, frozenset()).shows(3)


@pytest.mark.parametrize("text", ["", "1:2", "a:b:c", "1:2:3,", "1:2:,3", "1:2:3 "])
def test_what_is_no_snapshot_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no snapshot"):
        Snapshot.parse(text)
