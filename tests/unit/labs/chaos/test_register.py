from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from infra.runtime import RuntimeProblem
from labs.chaos.register import Entry, Register


def orphan(register: Register, entry: Entry, root: Path) -> None:
    """The same entry, of a process that is no more."""
    file = root / ".lab/projects/dev/chaos" / f"{entry.do}@{entry.target}.json"
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(entry, start_ticks=1)))
    assert register.holds(entry)


def test_an_entry_is_there_until_it_is_left(tmp_path: Path) -> None:
    register = Register(tmp_path, "dev")
    assert register.entries() == []
    entry = register.enter("latency", "web.back", {"ms": 5.0}, 20)
    assert register.entries() == [entry]
    assert Register(tmp_path, "lab").entries() == []
    register.leave(entry)
    register.leave(entry)
    assert not register.holds(entry)


def test_the_same_twice_is_refused_with_who_holds_it(tmp_path: Path) -> None:
    register = Register(tmp_path, "dev")
    entry = register.enter("kill", "web", {}, 20)
    with pytest.raises(RuntimeProblem, match=r"heals itself in .* s; 'make chaos do=heal target=web' ends it"):
        register.enter("kill", "web", {}, 20)
    orphan(register, entry, tmp_path)
    with pytest.raises(RuntimeProblem, match="its command is gone"):
        register.enter("kill", "web", {}, 20)
    register.enter("pause", "web", {}, 20)
    assert [one.do for one in register.entries()] == ["kill", "pause"]
    assert list((tmp_path / ".lab/projects/dev/chaos").glob("*.part")) == []


def test_the_time_until_the_heal_counts_from_when_it_acts(tmp_path: Path) -> None:
    register = Register(tmp_path, "dev")
    entry = register.enter("fill-disk", "redis", {}, 20)
    register.acts(entry, 20)
    (now,) = register.entries()
    assert now.begun_at >= entry.begun_at
    assert now.heals_at == now.begun_at + 20
    assert (now.do, now.target, now.pid) == (entry.do, entry.target, entry.pid)


def test_only_the_very_process_keeps_an_entry(tmp_path: Path) -> None:
    register = Register(tmp_path, "dev")
    entry = register.enter("kill", "web", {}, 20)
    assert entry.kept
    assert not msgspec.structs.replace(entry, start_ticks=entry.start_ticks + 1).kept
    assert not msgspec.structs.replace(entry, boot_id="another boot").kept
    assert not msgspec.structs.replace(entry, pid=2**22 + 1).kept


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ".lab/projects/dev/chaos"
    folder.mkdir(parents=True)
    (folder / "kill@web.json").write_text("{")
    with pytest.raises(RuntimeProblem, match=r"kill@web.json is damaged .*; delete it"):
        Register(tmp_path, "dev").entries()
