"""An inverted index and BM25, small enough to read in class; its scores are Lucene's up to one constant factor.

A document is a number in order of arrival. A term's postings are the documents that hold it, each with how often, written
as gaps in variable-length bytes: that is why an index is smaller than its text. One field, no deletes, all in memory.

Sources: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009); Manning, Raghavan and
Schuetze, "Introduction to Information Retrieval", chapters 1, 2 and 5; Lucene's SmallFloat (how lengths become a byte).
"""

from __future__ import annotations

import heapq
import re
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log

K1 = 1.2
"""How soon a further occurrence of a term stops mattering."""
B = 0.75
"""How much a long document is held against itself: 0 not at all, 1 in full."""

_WORD = re.compile(r"[a-z0-9]+")


def terms(text: str) -> list[str]:
    """The analyser: lower case, runs of letters a to z and digits. Document and query must go through the same one."""
    return _WORD.findall(text.lower())


_EXACT = 24
"""Lengths below this have a byte of their own."""


def length_byte(length: int) -> int:
    """A length in one byte: exact below 40, then four significant bits. Lucene's SmallFloat.intToByte4."""
    if length < _EXACT:
        return length
    rest = length - _EXACT
    shift = rest.bit_length() - 4
    return _EXACT + (rest if shift < 0 else (shift + 1 << 3) | (rest >> shift & 0x07))


def byte_length(code: int) -> int:
    """The length that such a byte stands for: never longer than the true one."""
    if code < _EXACT:
        return code
    bits, shift = code - _EXACT & 0x07, (code - _EXACT >> 3) - 1
    return _EXACT + (bits if shift < 0 else (bits | 0x08) << shift)


_LENGTHS = [byte_length(code) for code in range(256)]


@dataclass(slots=True)
class Postings:
    """One term's documents in ascending order: gap and frequency, each a variable-length integer."""

    documents: int = 0
    last: int = -1
    data: bytearray = field(default_factory=bytearray)

    def append(self, document: int, frequency: int) -> None:
        for number in (document - self.last, frequency):
            while number > 0x7F:
                self.data.append(number & 0x7F | 0x80)
                number >>= 7
            self.data.append(number)
        self.last = document
        self.documents += 1

    def __iter__(self) -> Iterator[tuple[int, int]]:
        document, number, shift, gap = -1, 0, 0, 0
        for byte in self.data:
            number |= (byte & 0x7F) << shift
            if byte & 0x80:
                shift += 7
                continue
            if gap:
                yield document, number
                gap = 0
            else:
                gap = number
                document += gap
            number = shift = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """`score` compares documents for one query, and nothing else."""

    document: int
    score: float


class TinyIndex:
    """`add` documents, then `search`. Both may alternate: the statistics are those of now."""

    def __init__(self) -> None:
        self._postings: dict[str, Postings] = {}
        self._lengths = array("B")
        self._total = 0
        self._filled = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, text: str) -> int:
        """Its number."""
        document = len(self._lengths)
        found = Counter(terms(text))
        for term, frequency in found.items():
            self._postings.setdefault(term, Postings()).append(document, frequency)
        length = found.total()
        self._lengths.append(length_byte(length))
        self._total += length
        self._filled += length > 0
        return document

    def idf(self, term: str) -> float:
        """A term in every document says next to nothing, one in a single document nearly all. Empty ones do not count."""
        with_term = self._postings[term].documents if term in self._postings else 0
        return log(1 + (self._filled - with_term + 0.5) / (with_term + 0.5))

    def search(self, query: str, limit: int = 10) -> list[Hit]:
        """Documents with any of the terms, best first; of equal ones the earlier. A term given twice counts twice."""
        if not self._total:
            return []
        average = self._total / self._filled
        norms = [K1 * (1 - B + B * length / average) for length in _LENGTHS]
        scores: dict[int, float] = {}
        for term, times in Counter(terms(query)).items():
            if term not in self._postings:
                continue
            weight = times * self.idf(term)
            for document, frequency in self._postings[term]:
                norm = norms[self._lengths[document]]
                scores[document] = scores.get(document, 0.0) + weight * frequency / (frequency + norm)
        best = heapq.nsmallest(limit, scores.items(), key=lambda item: (-item[1], item[0]))
        return [Hit(document, score) for document, score in best]

    def filled(self) -> tuple[int, float]:
        """How many documents have a word at all, and how many words those have on average (0 of none)."""
        return self._filled, self._total / self._filled if self._filled else 0.0

    def postings(self, term: str) -> list[tuple[int, int]]:
        """(document, frequency), by document."""
        return list(self._postings.get(term, ()))

    def length(self, document: int) -> int:
        """In words, as its byte remembers it."""
        return byte_length(self._lengths[document])

    def size(self) -> int:
        """Bytes of terms, postings and lengths: what a file of it would hold."""
        return len(self._lengths) + sum(len(term) + 8 + len(each.data) for term, each in self._postings.items())
