"""What exists only while an application runs, such as the edge that its routes need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Current(Generic[T]):
    """Made before the application, so that routes can be given it; filled by its lifespan. Called, it is what it holds."""

    def __init__(self) -> None:
        self._held: T | None = None

    def __call__(self) -> T:
        """Raises RuntimeError before the start and after the end: asking then is a bug."""
        if self._held is None:
            raise RuntimeError("the application does not run")
        return self._held

    @contextmanager
    def holding(self, it: T) -> Iterator[T]:
        """From the start to the end."""
        self._held = it
        try:
            yield it
        finally:
            self._held = None

    def ready(self, answers: Callable[[T], bool | Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
        """A readiness check: not ready before the start, then what `answers` says."""

        async def check() -> bool:
            if self._held is None:
                return False
            found = answers(self._held)
            return found if isinstance(found, bool) else await found

        return check
