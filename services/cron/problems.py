"""The problem documents of the cron API, each with its stable type."""

from __future__ import annotations

from services.kit.errors import InvalidQuery, Problem
from services.kit.idempotency import KeyReused

__all__ = ["InvalidQuery", "KeyReused"]


class NoSuchJob(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_job", "There is no such job")


class NameInUse(Problem):
    def __init__(self, job: str) -> None:
        super().__init__(409, "name_in_use", "A job of this name exists", extra={"job": job})


class TooManyJobs(Problem):
    def __init__(self, limit: int) -> None:
        super().__init__(
            409,
            "too_many_jobs",
            "No further job can be made",
            detail=f"A tenant has at most {limit} jobs; delete some.",
        )


class Changed(Problem):
    def __init__(self) -> None:
        super().__init__(412, "version_mismatch", "The job was changed since it was read; read it again")


class Contended(Problem):
    """Others kept changing the job in between. Nothing was done."""

    def __init__(self) -> None:
        super().__init__(
            503, "contended", "The job is being worked on; send the same request again", headers={"Retry-After": "1"}
        )


class RunActive(Problem):
    def __init__(self) -> None:
        super().__init__(
            409,
            "run_active",
            "An earlier run of the job is not finished",
            detail="The job's concurrency is forbid.",
            headers={"Retry-After": "1"},
        )


class BacklogFull(Problem):
    def __init__(self, limit: int) -> None:
        super().__init__(
            429,
            "backlog_full",
            "Too many runs of the job wait",
            detail=f"At most {limit} may.",
            headers={"Retry-After": "5"},
        )


class InvalidSchedule(Problem):
    """`field`: minute, hour, day-of-month, month, day-of-week, cron, zone or every_seconds."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(
            422, "invalid_schedule", "The schedule cannot be read", detail=f"{field} {reason}.", extra={"field": field}
        )


class InvalidTarget(Problem):
    """`field`: url or topic."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(422, "invalid_target", "The target cannot be called", detail=reason, extra={"field": field})
