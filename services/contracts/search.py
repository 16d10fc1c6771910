"""Bodies on `search.click.v1`. The key is the person, so that one person's events stay in order; consumers dedup by `ce_id`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

CLICK_EVENT = "search.product.clicked"


class Click(msgspec.Struct, frozen=True):
    """What a person did with a product that a search showed. `brand_id` and `category` are the product's then; None: unknown.

    `query`, `position` (from 1) and `ranking` say which search it was, where the caller told.
    """

    person: Annotated[str, Meta(min_length=1, max_length=64)]
    kind: Literal["view", "click", "purchase"]
    product: str
    at: datetime
    brand_id: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    category: Annotated[str, Meta(max_length=400)] | None = None
    query: str | None = None
    position: int | None = None
    ranking: str | None = None
