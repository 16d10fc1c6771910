"""The problem documents of the catalogue's API, each with its stable type."""

from __future__ import annotations

from services.kit.errors import Problem
from services.kit.idempotency import KeyReused

__all__ = ["KeyReused"]


class NoSuchProduct(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_product", "There is no such product")


class NoSuchVariant(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_variant", "The product has no such variant")


class NoSuchBrand(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_brand", "There is no such brand")


class NoSuchCategory(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_category", "There is no such category")


class NoSuchImport(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_import", "There is no such import")


class SkuInUse(Problem):
    """`sku`: the one that another product or variant has."""

    def __init__(self, sku: str) -> None:
        super().__init__(409, "sku_in_use", "Another product has this SKU", extra={"sku": sku})


class NameInUse(Problem):
    """Of a brand or the path of a category; `id`: who has it."""

    def __init__(self, holder: int | None) -> None:
        extra = {} if holder is None else {"id": holder}
        super().__init__(409, "name_in_use", "Another one has this name", extra=extra)


class InUse(Problem):
    def __init__(self, what: str) -> None:
        super().__init__(
            409, "in_use", f"The {what} is in use", detail="Products or categories belong to it; move them."
        )


class UnknownReference(Problem):
    """`field`: brand_id or category_id."""

    def __init__(self, field: str) -> None:
        super().__init__(
            422, "unknown_reference", "The product points at something that is not there",
            detail=f"{field} names none that exists.", extra={"field": field},
        )  # fmt: skip


class InvalidProduct(Problem):
    """What no schema can say."""

    def __init__(self, detail: str) -> None:
        super().__init__(422, "invalid_product", "The product makes no sense", detail=detail)


class InvalidOffers(Problem):
    """What no schema can say."""

    def __init__(self, detail: str) -> None:
        super().__init__(422, "invalid_offers", "The offers make no sense", detail=detail)


class HasVariants(Problem):
    def __init__(self) -> None:
        super().__init__(
            409, "has_variants", "The stock of this product is that of its variants", detail="Set a variant's stock."
        )


class Changed(Problem):
    def __init__(self) -> None:
        super().__init__(412, "version_mismatch", "The product was changed since it was read; read it again")


class Contended(Problem):
    """Somebody else wrote the same at the same moment. Nothing was done."""

    def __init__(self) -> None:
        super().__init__(
            503, "contended", "Somebody else writes the same; send the request again", headers={"Retry-After": "1"}
        )


class NotLines(Problem):
    def __init__(self) -> None:
        super().__init__(
            415, "unsupported_media_type", "Send application/x-ndjson in UTF-8, one product a line, not compressed"
        )


class InvalidImport(Problem):
    def __init__(self, detail: str) -> None:
        super().__init__(400, "invalid_import", "The import cannot be begun so", detail=detail)


class LinesMissing(Problem):
    """Lines were left out. `next_line`: the first that is wanted."""

    def __init__(self, next_line: int) -> None:
        super().__init__(
            409, "lines_missing", "The body begins after the first line that is missing", extra={"next_line": next_line}
        )


class ImportMoved(Problem):
    """Two requests carry one import on; this one came second."""

    def __init__(self) -> None:
        super().__init__(409, "import_moved", "Another request carries this import on", headers={"Retry-After": "1"})


class TooManyBadLines(Problem):
    """`next_line`: all lines below are decided; what is sent again begins there."""

    def __init__(self, limit: int, next_line: int) -> None:
        super().__init__(
            422, "too_many_bad_lines", "The import was stopped: too many of its lines are bad",
            detail=f"At most {limit} may be; mend them and go on at next_line.", extra={"next_line": next_line},
        )  # fmt: skip
