"""What is shown while a lab runs: a live line per phase on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from labs.engine.model import Phase

PLAIN_EVERY_SECONDS = 10.0
PROGRESS_VARIABLE = "LAB_PROGRESS"
"""`events` in the environment: every tick as a line of JSON, for a program that shows it."""
EVENT_MARK = "\x1e"
"""Before each such line (the record separator of RFC 7464), so that it is told from text."""


@dataclass(frozen=True, slots=True)
class Tick:
    """How the load fares: `rate` per second, `errors` as a share of the last second, `p99_ms` of the same."""

    rate: float | None = None
    errors: float | None = None
    p99_ms: float | None = None
    faults: tuple[str, ...] = ()
    note: str = ""


class Display(Protocol):
    """Where a run says what it does."""

    def say(self, text: str) -> None:
        """A line that stays."""
        ...

    def begin(self, who: str, phase: Phase, seconds: float | None) -> None:
        """A phase starts; `seconds` if its length is known."""
        ...

    def tick(self, elapsed: float, tick: Tick) -> None:
        """How the phase goes, `elapsed` seconds after its start."""
        ...

    def end(self, elapsed: float, tick: Tick) -> None:
        """The phase is over."""
        ...


def line(who: str, phase: Phase, elapsed: float, seconds: float | None, tick: Tick) -> str:
    """One progress line."""
    length = f"{elapsed:4.0f} s" if seconds is None else f"{elapsed:4.0f}/{seconds:.0f} s"
    parts = [f"{who:<12} {phase.value:<9} {length:>9}"]
    if tick.rate is not None:
        parts.append(f"{tick.rate:5.0f}/s")
    if tick.errors is not None:
        parts.append(f"errors {tick.errors * 100:5.1f} %")
    if tick.p99_ms is not None:
        parts.append(f"p99 {tick.p99_ms:6.0f} ms")
    if tick.faults:
        parts.append("faults: " + ", ".join(tick.faults))
    if tick.note:
        parts.append(tick.note)
    return "  ".join(parts)


class PlainDisplay:
    """For pipes and logs: a line when a phase ends, and every ten seconds within a long one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._who, self._phase = "", Phase.PREFLIGHT
        self._seconds: float | None = None
        self._said_at = 0.0

    def say(self, text: str) -> None:
        """Print it."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, who: str, phase: Phase, seconds: float | None) -> None:
        """Nothing to say yet."""
        self._who, self._phase, self._seconds = who, phase, seconds
        self._said_at = 0.0

    def tick(self, elapsed: float, tick: Tick) -> None:
        """Every ten seconds."""
        nearly_over = self._seconds is not None and elapsed > self._seconds - 1
        if elapsed - self._said_at >= PLAIN_EVERY_SECONDS and not nearly_over:
            self._said_at = elapsed
            self.say(line(self._who, self._phase, elapsed, self._seconds, tick))

    def end(self, elapsed: float, tick: Tick) -> None:
        """The line of the whole phase."""
        self.say(line(self._who, self._phase, elapsed, None, tick))


class EventDisplay(PlainDisplay):
    """For the console: the plain lines of finished phases, and between them every tick as an event."""

    def begin(self, who: str, phase: Phase, seconds: float | None) -> None:
        """A phase starts."""
        super().begin(who, phase, seconds)
        self._event(0.0, Tick())

    def tick(self, elapsed: float, tick: Tick) -> None:
        """Each one."""
        self._event(elapsed, tick)

    def _event(self, elapsed: float, tick: Tick) -> None:
        told = {"who": self._who, "phase": self._phase.value, "elapsed": elapsed, "seconds": self._seconds}
        print(EVENT_MARK + json.dumps(told | asdict(tick)), flush=True)


class LiveDisplay:
    """For a terminal: the phase's line is drawn over itself, and stays when the phase is over."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._who, self._phase = "", Phase.PREFLIGHT
        self._seconds: float | None = None

    def say(self, text: str) -> None:
        """Above the live line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, who: str, phase: Phase, seconds: float | None) -> None:
        """Draw the line."""
        self._close()
        self._who, self._phase, self._seconds = who, phase, seconds
        self._live = Live(self._text(0.0, Tick()), console=self._console, transient=True, refresh_per_second=8)
        self._live.start()

    def tick(self, elapsed: float, tick: Tick) -> None:
        """Draw it again."""
        if self._live is not None:
            self._live.update(self._text(elapsed, tick))

    def end(self, elapsed: float, tick: Tick) -> None:
        """Leave the line."""
        self._close()
        self._console.print(self._text(elapsed, tick, done=True))

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _text(self, elapsed: float, tick: Tick, *, done: bool = False) -> Text:
        text = Text(line(self._who, self._phase, elapsed, None if done else self._seconds, tick), overflow="ellipsis")
        text.no_wrap = True
        if tick.faults and not done:
            text.stylize("yellow")
        elif not done:
            text.stylize("cyan")
        return text


def open_display(console: Console) -> Display:
    """The one that fits where we print to."""
    if os.environ.get(PROGRESS_VARIABLE) == "events":
        return EventDisplay(console)
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)
