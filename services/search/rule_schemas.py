"""Business rules as the API and files have them: `prd_...` ids at the edge, times with a zone."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from services.kit import ids
from services.search.ranking.rules import MOST_PRODUCTS, Action, Rule, normal

PRODUCT = "prd"
BODY_BYTES = 32 * 1024
RULE_ID = r"^[a-z0-9][a-z0-9-]{0,63}\Z"

CategoryPath = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[a-z0-9-]+(/[a-z0-9-]+){0,9}\Z")]
When = Annotated[datetime, Meta(tz=True)]


class RuleBody(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a rule says. `query` is kept in lower case with single spaces; see services/search/ranking/rules.py."""

    action: Action
    products: Annotated[list[Annotated[str, Meta(max_length=40)]], Meta(max_length=MOST_PRODUCTS)] = []
    brands: Annotated[list[Annotated[int, Meta(ge=1, le=2**31 - 1)]], Meta(max_length=MOST_PRODUCTS)] = []
    categories: Annotated[list[CategoryPath], Meta(max_length=MOST_PRODUCTS)] = []
    query: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    category: CategoryPath | None = None
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    starts_at: When | None = None
    ends_at: When | None = None
    note: Annotated[str, Meta(max_length=500)] = ""


class RuleView(RuleBody, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A rule as it is now. `version` grows with each change and is the ETag."""

    id: str
    version: int
    changed_at: datetime


class RuleLine(RuleBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line of a file of rules."""

    id: Annotated[str, Meta(pattern=RULE_ID)]


class RuleWrong(ValueError):
    """The rule contradicts itself; the message is one sentence."""


def rule_of(identity: str, body: RuleBody, changed_at: datetime | None = None) -> Rule:
    """Raises RuleWrong."""
    products = []
    for each in body.products:
        if (product := ids.decode(PRODUCT, each)) is None:
            raise RuleWrong(f"A product's id begins with {PRODUCT}_ and is 30 characters long.")
        products.append(product)
    if body.query is not None and "\x00" in body.query:
        raise RuleWrong("The query of a rule holds no zero character.")
    try:
        return Rule(
            id=identity,
            action=body.action,
            products=tuple(products),
            brands=tuple(body.brands),
            categories=tuple(body.categories),
            query=None if body.query is None else normal(body.query),
            category=body.category,
            priority=body.priority,
            starts_at=body.starts_at,
            ends_at=body.ends_at,
            changed_at=changed_at,
            note=body.note,
        )
    except ValueError as error:
        raise RuleWrong(str(error)) from None


def view_of(rule: Rule, version: int) -> RuleView:
    """Of a rule that is kept."""
    assert rule.changed_at is not None
    return RuleView(
        id=rule.id,
        version=version,
        changed_at=rule.changed_at,
        action=rule.action,
        products=[ids.encode(PRODUCT, each) for each in rule.products],
        brands=list(rule.brands),
        categories=list(rule.categories),
        query=rule.query,
        category=rule.category,
        priority=rule.priority,
        starts_at=rule.starts_at,
        ends_at=rule.ends_at,
        note=rule.note,
    )


def rules_in(text: bytes) -> list[Rule]:
    """JSON lines. Raises RuleWrong with the number of the line."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            body = msgspec.json.decode(line, type=RuleLine)
            found.append(rule_of(body.id, body))
        except (msgspec.DecodeError, UnicodeDecodeError, RuleWrong) as error:
            raise RuleWrong(f"line {number}: {error}") from None
    return found
