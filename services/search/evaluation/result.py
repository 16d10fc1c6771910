"""What an evaluation found: each ranking's scores query by query. Kept in a file, it is what a later one is held against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from services.search.evaluation.bootstrap import Interval, interval
from services.search.evaluation.measures import Scores


class ResultWrong(Exception):
    """A kept result cannot be used. The message names the file."""


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One query under one ranking."""

    query: str
    form: str
    language: str
    ndcg: float
    reciprocal_rank: float
    recall: float
    zero: bool
    wanted: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Which query it is."""
        return self.query, self.language


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By ranking. `judged` is the name of the file of judgements."""

    judged: str
    rankings: dict[str, list[Row]]
    schema: Literal[1] = 1


class Line(msgspec.Struct, frozen=True):
    """Means over a ranking's queries, or over those of one form."""

    ranking: str
    form: str
    queries: int
    ndcg: Interval
    reciprocal_rank: float
    recall: float
    zero: float
    wanted: float | None


ALL = "all"


def row(query: str, form: str, language: str, found: Scores) -> Row:
    """A query's scores."""
    return Row(query, form, language, found.ndcg, found.reciprocal_rank, found.recall, found.zero, found.wanted)


def lines(result: Result) -> list[Line]:
    """Each ranking over all queries, then each over each form."""
    forms = list(dict.fromkeys(each.form for rows in result.rankings.values() for each in rows))
    whole = [_line(name, ALL, rows) for name, rows in result.rankings.items()]
    return whole + [
        _line(name, form, [each for each in rows if each.form == form])
        for form in forms
        for name, rows in result.rankings.items()
    ]


def _line(ranking: str, form: str, rows: Sequence[Row]) -> Line:
    count = len(rows)
    known = [each.wanted for each in rows if each.wanted is not None]
    return Line(
        ranking=ranking,
        form=form,
        queries=count,
        ndcg=interval([each.ndcg for each in rows]),
        reciprocal_rank=sum(each.reciprocal_rank for each in rows) / count,
        recall=sum(each.recall for each in rows) / count,
        zero=sum(each.zero for each in rows) / count,
        wanted=sum(known) / len(known) if known else None,
    )


def table(result: Result) -> str:
    """For people."""
    head = ("ranking", "form", "queries", "nDCG@10 [95 %]", "MRR", "recall@100", "no result", "MRR of the one meant")
    body = [
        (
            each.ranking, each.form, str(each.queries), str(each.ndcg), f"{each.reciprocal_rank:.3f}",
            f"{each.recall:.3f}", f"{each.zero:.1%}", "-" if each.wanted is None else f"{each.wanted:.3f}",
        )
        for each in lines(result)
    ]  # fmt: skip
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (head, *body)
    )


def save(path: Path, result: Result) -> None:
    """Raises OSError."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def kept(path: Path) -> Result:
    """Raises ResultWrong."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except OSError as error:
        raise ResultWrong(f"{path} cannot be read: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise ResultWrong(f"{path} is no result of an evaluation: {error}.") from error
    except UnicodeDecodeError as error:
        raise ResultWrong(f"{path} is no result of an evaluation: it is not UTF-8.") from error
