"""What a chaos command says: lines for people, or one JSON object a line for the console."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Protocol, TextIO

import msgspec

from labs.engine.model import Json


class Teller(Protocol):
    """Never raises: a terminal that was closed must not keep a fault from being healed."""

    def event(self, kind: str, text: str, facts: Mapping[str, Json] | None = None) -> None:
        """started, receipt, healed, problem, note."""

    def countdown(self, seconds: float) -> None:
        """Seconds until the heal; called about once a second."""


class _Output:
    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None
            # What is still in its buffer would be tried again, loudly, when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class PlainTeller:
    """A countdown in place on a terminal, plain lines elsewhere."""

    _WORDS = {"receipt": "receipt: ", "problem": "problem: "}  # noqa: RUF012 (a constant table)

    def __init__(self, stream: TextIO) -> None:
        self._out = _Output(stream)
        self._terminal = stream.isatty()
        self._counting = False

    def event(self, kind: str, text: str, facts: Mapping[str, Json] | None = None) -> None:
        """One line."""
        del facts
        clear = "\r\x1b[K" if self._counting else ""
        self._counting = False
        self._out.write(f"{clear}{self._WORDS.get(kind, '')}{text}\n")

    def countdown(self, seconds: float) -> None:
        """In place; nothing where there is no terminal."""
        if self._terminal:
            self._counting = True
            self._out.write(f"\r\x1b[Kheals in {seconds:.0f} s; Ctrl-C heals now")


class JsonTeller:
    """`{"event": "receipt", "text": "...", ...}`."""

    def __init__(self, stream: TextIO) -> None:
        self._out = _Output(stream)

    def event(self, kind: str, text: str, facts: Mapping[str, Json] | None = None) -> None:
        """One line."""
        self._out.write(msgspec.json.encode({"event": kind, "text": text, **(facts or {})}).decode() + "\n")

    def countdown(self, seconds: float) -> None:
        """The console counts by itself."""
        del seconds
