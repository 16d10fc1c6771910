"""Profiles: what `make up` of each takes."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from benchmarks.rows import NONE, Aim, Figures, Row, Shall, Unit, each, one, rounds, several

WARM = Aim(
    Shall.BE_AT_MOST, 15, Unit.SECONDS,
    limit="The servers start beside each other, so the cores decide: two of Java and two dozen interpreters that load their libraries at once.",
)  # fmt: skip
MEMORY = Aim(
    Shall.BE_AT_MOST, 3072, Unit.MEBIBYTES, limit="The heaps are set in the compose file; the rest is some 45 MiB for each of our processes."
)  # fmt: skip
TOGETHER = Aim(
    Shall.BE_AT_MOST, 6144, Unit.MEBIBYTES, limit="The heaps are set in the compose file; the rest is some 45 MiB for each of our processes."
)  # fmt: skip
AIMS = {"week2": (WARM, MEMORY), "week7": (None, MEMORY), "story": (None, TOGETHER)}
"""Of a profile's warm start and of its memory; `story` is all systems together."""
LARGEST_SHOWN = 3


class ProfileFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`disk_mib` is data; `memory_mib` is by service, empty where the engine does not tell."""

    services: int
    cold_seconds: list[float]
    warm_seconds: list[float]
    stop_seconds: list[float]
    disk_mib: float
    memory_mib: dict[str, float]


class ProfilesFigures(Figures):
    """`setup_mib`: what set-up has fetched or built, by kind; kept by `make clean`."""

    LIMIT: ClassVar[str] = (
        "Measured with the command behind `make up`, exporters and alerts (profile `observe`) and links through Toxiproxy included, in a project of its own, so that nobody's data "
        "is deleted. *Cold* is with no data at all, as after `make clean`; *warm* is the second start. Until every service is healthy; set-up is done before."
    )

    setup_mib: dict[str, float] = msgspec.field(default_factory=dict)
    profiles: dict[str, ProfileFigures] = msgspec.field(default_factory=dict)
    failures: dict[str, str] = msgspec.field(default_factory=dict)

    def title(self) -> str:
        """See Figures."""
        return "what a week takes of the machine"

    def rows(self) -> list[Row]:
        """See Figures."""
        found = [row for name, one in self.profiles.items() for row in self._of(name, one)]
        found += [Row(f"{name}: did not start", reason) for name, reason in self.failures.items()]
        return [*found, several("disk, what set-up fetched", self.setup_mib, Unit.MEBIBYTES)]

    def _of(self, name: str, found: ProfileFigures) -> list[Row]:
        warm, memory = AIMS.get(name, (None, None))
        return [
            rounds(f"{name} ({found.services} services): cold start", found.cold_seconds, Unit.SECONDS),
            rounds(f"{name}: warm start", found.warm_seconds, Unit.SECONDS, warm, headline=name in AIMS),
            rounds(f"{name}: stop", found.stop_seconds, Unit.SECONDS),
            self._memory(name, found.memory_mib, memory),
            one(f"{name}: disk, data of a fresh start", found.disk_mib, Unit.MEBIBYTES),
        ]

    def _memory(self, name: str, by_service: dict[str, float], aim: Aim | None) -> Row:
        largest = sorted(by_service.items(), key=lambda item: -item[1])[:LARGEST_SHOWN]
        total = sum(by_service.values())
        shown = f"{Unit.MEBIBYTES.of(total)} ({each(dict(largest), Unit.MEBIBYTES)} ...)" if by_service else NONE
        return Row(f"{name}: memory", shown, total if by_service else None, aim=aim)
