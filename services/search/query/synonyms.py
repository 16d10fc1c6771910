"""What people also say, from a file: expanded here, when a query is built, so that the index never hears of a change.

Engines expand synonyms in analysers, where a change needs a closed index or a reload and a word that has synonyms loses its
typo tolerance. Here a misspelt word finds the synonyms of what was meant, too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

FILE = Path(__file__).parent / "synonyms.txt"
EVERY_LANGUAGE = "*"
LANGUAGES = ("en", "de", "fr", "es")
LONGEST_ENTRY = 5
"""Words of one entry."""
MOST_ALTERNATIVES = 12
"""Of one expression: each is a clause of the engine's query."""
FIRST_TYPO, SECOND_TYPO = 4, 8
"""A word of so many letters may have one typo, or two."""

_WORDS = re.compile(r"[^\W_]+", re.UNICODE)
_MEASURE = re.compile(r"([0-9]{1,9})([a-z]{1,3})")


class SynonymError(ValueError):
    """A line that cannot be read; the message names it."""


@lru_cache(maxsize=20_000)
def fold(text: str) -> str:
    """Lower case without accents, as the index has it; what is no letter or digit becomes one space."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return " ".join(_WORDS.findall(bare))


def typos_allowed(word: str) -> int:
    """0 for short words and for whatever holds a digit: a number with another digit is another number."""
    if any(letter.isdigit() for letter in word):
        return 0
    return (len(word) >= FIRST_TYPO) + (len(word) >= SECOND_TYPO)


@dataclass(frozen=True, slots=True)
class Alternatives:
    """What else finds an expression: `same` means the same, `guessed` does if a word of it was misspelt. Folded."""

    same: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.same or self.guessed)


NO_ALTERNATIVES = Alternatives()


@dataclass(frozen=True, slots=True, eq=False)
class Synonyms:
    """Folded expression -> what else finds it, by language (`*`: all). One of its kind: two tables are never equal."""

    table: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    def of(self, expression: str, language: str | None) -> Alternatives:
        """Alternatives to an expression; of all languages if none is given. Never itself."""
        folded = fold(expression)
        if not folded or folded.count(" ") >= LONGEST_ENTRY:
            return NO_ALTERNATIVES
        return _alternatives(self, folded, language)

    def spans(self, words: Sequence[str], language: str | None) -> Iterator[tuple[int, int, Alternatives]]:
        """The words from left to right in pieces `(from, to, alternatives)`, each the longest expression with synonyms."""
        place = 0
        while place < len(words):
            for length in range(min(LONGEST_ENTRY, len(words) - place), 0, -1):
                alternatives = self.of(" ".join(words[place : place + length]), language)
                if alternatives or length == 1:
                    yield place, place + length, alternatives
                    place += length
                    break


NONE = Synonyms()


def read(text: str) -> Synonyms:
    """The table of a file's text. Raises SynonymError."""
    table: dict[str, dict[str, tuple[str, ...]]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        language, colon, rest = content.partition(":")
        if not colon or language.strip() not in (*LANGUAGES, EVERY_LANGUAGE):
            raise SynonymError(f"Line {number} begins with no language and colon.")
        entries = table.setdefault(language.strip(), {})
        for key, values in _entry(rest, number):
            entries[key] = tuple(dict.fromkeys((*entries.get(key, ()), *values)))
    return Synonyms(table)


def _entry(text: str, number: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    left, arrow, right = text.partition("=>")
    sources = [fold(each) for each in left.split(",")]
    targets = [fold(each) for each in right.split(",")] if arrow else sources
    if not all(sources) or not all(targets) or (not arrow and len(sources) < 2):
        raise SynonymError(f"Line {number} names fewer than two expressions, or an empty one.")
    if any(each.count(" ") >= LONGEST_ENTRY for each in (*sources, *targets)):
        raise SynonymError(f"Line {number} has an expression of more than {LONGEST_ENTRY} words.")
    for source in sources:
        yield source, tuple(target for target in targets if target != source)


def _apart(word: str) -> tuple[str, ...]:
    """`2200w` as titles and attributes have it, number and unit apart: `2200 w`. Nothing for any other word."""
    found = _MEASURE.fullmatch(word)
    return () if found is None else (f"{found[1]} {found[2]}",)


@lru_cache(maxsize=20_000)
def _alternatives(synonyms: Synonyms, folded: str, language: str | None) -> Alternatives:
    languages = LANGUAGES if language is None else (language,)
    tables = [synonyms.table[name] for name in (*languages, EVERY_LANGUAGE) if name in synonyms.table]
    apart = _apart(folded)
    same = dict.fromkeys(
        (*apart, *(each for key in (folded, *apart) for table in tables for each in table.get(key, ())))
    )
    if same:
        return Alternatives(tuple(same)[:MOST_ALTERNATIVES])
    guessed = (each for table in tables for key in _meant(folded, table) for each in (key, *table[key]))
    return Alternatives(guessed=tuple(dict.fromkeys(guessed))[:MOST_ALTERNATIVES])


def _meant(expression: str, known: Iterable[str]) -> Iterator[str]:
    """Known expressions that this one may be a misspelling of: in one word of it, its first letter right."""
    words = expression.split()
    return (key for key in known if _one_word_off(words, key.split()))


def _one_word_off(words: Sequence[str], key: Sequence[str]) -> bool:
    if len(words) != len(key):
        return False
    off = [(ours, theirs) for ours, theirs in zip(words, key, strict=True) if ours != theirs]
    return len(off) == 1 and _misspelt(*off[0])


def _misspelt(ours: str, theirs: str) -> bool:
    allowed = min(typos_allowed(ours), typos_allowed(theirs))
    if not allowed or ours[0] != theirs[0] or abs(len(ours) - len(theirs)) > allowed:
        return False
    return distance(ours, theirs) <= allowed


def distance(left: str, right: str) -> int:
    """Damerau and Levenshtein's, with adjacent letters swapped once (optimal string alignment), as Lucene counts typos."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for place, letter in enumerate(left, 1):
        after = [place]
        for other_place, other in enumerate(right, 1):
            best = min(row[other_place] + 1, after[-1] + 1, row[other_place - 1] + (letter != other))
            swapped = place > 1 and other_place > 1 and letter == right[other_place - 2] and left[place - 2] == other
            after.append(min(best, before[other_place - 2] + 1) if swapped else best)
        before, row = row, after
    return row[-1]


class SynonymFile:
    """A file that is read again when it has changed. Keeps what it has when the new text cannot be read."""

    def __init__(self, path: Path = FILE) -> None:
        self._path = path
        self._stamp = self._now()
        self.current = read(path.read_text("utf-8"))

    def _now(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size

    def refresh(self) -> bool:
        """True if there is a new table. Blocks for a file's reading. Raises SynonymError and OSError, once a change."""
        stamp = self._now()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self.current = read(self._path.read_text("utf-8"))
        return True
