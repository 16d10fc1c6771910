"""Lines out of a stream, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """`number` counts from 1, empty lines included. `text` None: it was longer than allowed, and is gone."""

    number: int
    text: bytes | None


class LineSplitter:
    """Takes pieces of any size and gives whole lines; never holds more than one line and the piece at hand.

    Ends of lines are LF or CRLF. `longest` in bytes, without the end. `first` is the number of the first line.
    """

    def __init__(self, longest: int, first: int = 1) -> None:
        self._longest = longest
        self._number = first
        self._held = bytearray()
        self._dropping = False

    def feed(self, piece: bytes) -> Iterator[Line]:
        """The lines that end in this piece. Must be read to its end before the next piece."""
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            self._take(piece, start, end)
            yield self._end()
            start = end + 1
        self._take(piece, start, len(piece))

    def close(self) -> Iterator[Line]:
        """The last line, where the stream ended without an end of line."""
        if self._held or self._dropping:
            yield self._end()

    def _take(self, piece: bytes, start: int, end: int) -> None:
        # One more than allowed, for a CR.
        if self._dropping or len(self._held) + end - start > self._longest + 1:
            self._dropping = True
            self._held.clear()
        else:
            self._held += memoryview(piece)[start:end]

    def _end(self) -> Line:
        text = bytes(self._held).removesuffix(b"\r")
        line = Line(self._number, None if self._dropping or len(text) > self._longest else text)
        self._number += 1
        self._held.clear()
        self._dropping = False
        return line
