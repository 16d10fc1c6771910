"""Routes: HTTP to a command and back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from services.catalog import failpoints, handlers, metrics, problems
from services.catalog.domain import PREFIX, Stored
from services.catalog.handlers import Context
from services.catalog.importing import TOLD, run_import
from services.catalog.schemas import (
    LARGEST_ID,
    BadLine,
    BadLineList,
    BrandBody,
    BrandList,
    BrandView,
    CategoryBody,
    CategoryList,
    CategoryView,
    ImportResult,
    ImportView,
    NamesBody,
    OfferList,
    OffersBody,
    PatchProduct,
    ProductBody,
    ProductList,
    ProductView,
    SetPopularity,
    SetPrice,
    SetStock,
    brand_view,
    category_view,
    offer_view,
    product_view,
)
from services.catalog.store.imports import Bad, Import
from services.catalog.store.tree import NameTaken, StillUsed
from services.kit import ids, openapi
from services.kit.access import ApiKeys, bearer
from services.kit.admission import Places, store_answers, wanted_version
from services.kit.failpoint import failpoint
from services.kit.http import json_response, read_json
from services.kit.idempotency import optional_idempotency_key
from services.kit.query import Query
from services.patterns.idempotency import fingerprint

_SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,63}")
_IMPORT = re.compile(r"[A-Za-z0-9._-]{1,100}")
_PATH = re.compile(r"[a-z0-9_/-]{1,200}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
MOST_LINES = 10**18 - 1
"""In one import; what the pattern above admits."""


_version = partial(wanted_version, changed=problems.Changed)
"""Of If-Match."""


@dataclass(slots=True)
class Edge:
    """What the routes need beside the commands' context. One per process."""

    context: Context
    monotonic: Callable[[], float]
    keys: ApiKeys = field(init=False)
    places: Places = field(init=False)
    import_places: Places = field(init=False)

    def __post_init__(self) -> None:
        settings = self.context.settings
        self.places = Places(settings.max_in_flight, metrics.SHED.inc)
        self.import_places = Places(settings.max_imports, metrics.SHED.inc)
        self.keys = ApiKeys(self.context.products.owner_of, self.monotonic)

    @asynccontextmanager
    async def admitted(self, request: Request) -> AsyncIterator[str]:
        """Count a request in and say whose it is. Its body is read first: who sends slowly must not hold a place.

        Raises Busy beyond the bound, when nothing has been done yet; Unauthorised; Unavailable.
        """
        await request.body()
        with self.places.one(), store_answers():
            yield await self.keys.owner(bearer(request))

    @asynccontextmanager
    async def importing(self, request: Request) -> AsyncIterator[str]:
        """The same for a body that is read piece by piece. Raises Busy, Unauthorised, Unavailable."""
        with (
            self.import_places.one(),
            metrics.IMPORTS_RUNNING.track_inprogress(),
            store_answers("go on where the import stands"),
        ):
            yield await self.keys.owner(bearer(request))


EdgeOf = Callable[[], Edge]


def routes(edge_of: EdgeOf) -> APIRouter:
    """The router. `edge_of` is called once the application's lifespan has begun."""
    router = APIRouter(prefix="/v1")
    _product_routes(router, edge_of)
    _offer_routes(router, edge_of)
    _part_routes(router, edge_of)
    _brand_routes(router, edge_of)
    _category_routes(router, edge_of)
    _import_routes(router, edge_of)
    return router


def _product_routes(router: APIRouter, edge_of: EdgeOf) -> None:
    @router.post("/products", openapi_extra=_documented(ProductBody, 201, _KEY_HEADER))
    async def create(request: Request) -> Response:
        """Make a product. With an Idempotency-Key a retry gets the first answer; without, 409 `sku_in_use`."""
        edge = edge_of()
        async with edge.admitted(request) as owner:
            key = await _key_of(request)
            body = await read_json(request, ProductBody)
            made = await handlers.create_product(edge.context, owner, body, key)
            await failpoint(failpoints.API_AFTER_COMMIT, body.sku)
            return _created(made)

    @router.get("/products", openapi_extra=_documented(None, 200, *openapi.PAGING, _SKU_PARAMETER, answer=ProductList))
    async def listing(request: Request) -> Response:
        """All products, newest first, or with `sku` the one that has it, itself or as a variant."""
        edge = edge_of()
        async with edge.admitted(request):
            query = Query.of(request, "limit", "cursor", "sku")
            limit, before, sku = query.limit, query.cursor(PREFIX), query.values.get("sku")
            if sku is not None:
                found = await edge.context.products.by_sku(sku) if _SKU.fullmatch(sku) else None
                return json_response(200, ProductList([product_view(found)] if found else [], None))
            page = [product_view(one) for one in await edge.context.products.page(before, limit + 1)]
            return json_response(200, ProductList(page[:limit], page[limit - 1].id if len(page) > limit else None))

    @router.get("/products/{product_id}", openapi_extra=_documented(None, 200))
    async def get(product_id: str, request: Request) -> Response:
        """A product as it is now, with its version as ETag."""
        edge = edge_of()
        async with edge.admitted(request):
            return _product(await handlers.get_product(edge.context, _product_id(product_id)))

    @router.put("/products/{product_id}", openapi_extra=_documented(ProductBody, 200, openapi.IF_MATCH))
    async def put(product_id: str, request: Request) -> Response:
        """Replace the whole of it. With If-Match only the version that was read."""
        edge = edge_of()
        async with edge.admitted(request):
            body = await read_json(request, ProductBody)
            product, version = _product_id(product_id), _version(request)
            return _product(await handlers.put_product(edge.context, product, body, version))

    @router.patch("/products/{product_id}", openapi_extra=_documented(PatchProduct, 200, openapi.IF_MATCH))
    async def patch(product_id: str, request: Request) -> Response:
        """Change what is given. With If-Match only the version that was read."""
        edge = edge_of()
        async with edge.admitted(request):
            body = await read_json(request, PatchProduct)
            product, version = _product_id(product_id), _version(request)
            return _product(await handlers.patch_product(edge.context, product, body, version))

    @router.delete(
        "/products/{product_id}", status_code=204, openapi_extra=_documented(None, 204, openapi.IF_MATCH, answer=None)
    )
    async def delete(product_id: str, request: Request) -> Response:
        """End a product and its variants. Its SKUs are free at once."""
        edge = edge_of()
        async with edge.admitted(request):
            await handlers.delete_product(edge.context, _product_id(product_id), _version(request))
            return Response(status_code=204)


def _offer_routes(router: APIRouter, edge_of: EdgeOf) -> None:
    @router.post("/offers", openapi_extra=_documented(OffersBody, 200, answer=OfferList))
    async def take(request: Request) -> Response:
        """Prices and stocks of a feed, by SKU, in one commit; each has an outcome of its own. Sent twice it changes nothing.

        Without an answer it is not known of any of them whether it was taken: send the same again.
        """
        edge = edge_of()
        async with edge.admitted(request):
            body = await read_json(request, OffersBody)
            done = await handlers.take_offers(edge.context, body.offers)
            await failpoint(failpoints.API_AFTER_COMMIT, body.offers[0].sku)
            return json_response(200, OfferList([offer_view(each) for each in done]))


def _part_routes(router: APIRouter, edge_of: EdgeOf) -> None:
    @router.put("/products/{product_id}/stock", openapi_extra=_documented(SetStock, 200, openapi.IF_MATCH))
    async def stock(product_id: str, request: Request) -> Response:
        """Of a product without variants."""
        edge = edge_of()
        async with edge.admitted(request):
            wanted = (await read_json(request, SetStock)).stock
            product, version = _product_id(product_id), _version(request)
            return _product(await handlers.set_stock(edge.context, product, wanted, version))

    @router.put("/products/{product_id}/price", openapi_extra=_documented(SetPrice, 200, openapi.IF_MATCH))
    async def price(product_id: str, request: Request) -> Response:
        """The product's own; its variants have theirs."""
        edge = edge_of()
        async with edge.admitted(request):
            wanted = (await read_json(request, SetPrice)).price
            product, version = _product_id(product_id), _version(request)
            return _product(await handlers.set_price(edge.context, product, wanted, version))

    @router.put("/products/{product_id}/popularity", openapi_extra=_documented(SetPopularity, 200, openapi.IF_MATCH))
    async def popularity(product_id: str, request: Request) -> Response:
        """Sales of the last thirty days, from whoever counts them."""
        edge = edge_of()
        async with edge.admitted(request):
            wanted = (await read_json(request, SetPopularity)).popularity
            product, version = _product_id(product_id), _version(request)
            return _product(await handlers.set_popularity(edge.context, product, wanted, version))

    @router.put(
        "/products/{product_id}/variants/{sku:path}/stock", openapi_extra=_documented(SetStock, 200, openapi.IF_MATCH)
    )
    async def variant_stock(product_id: str, sku: str, request: Request) -> Response:
        """Of one variant; the product's is their sum."""
        edge = edge_of()
        async with edge.admitted(request):
            wanted = (await read_json(request, SetStock)).stock
            product, version = _product_id(product_id), _version(request)
            return _product(await handlers.set_variant(edge.context, product, sku, version, stock=wanted))

    @router.put(
        "/products/{product_id}/variants/{sku:path}/price", openapi_extra=_documented(SetPrice, 200, openapi.IF_MATCH)
    )
    async def variant_price(product_id: str, sku: str, request: Request) -> Response:
        """Of one variant."""
        edge = edge_of()
        async with edge.admitted(request):
            wanted = (await read_json(request, SetPrice)).price
            product, version = _product_id(product_id), _version(request)
            return _product(await handlers.set_variant(edge.context, product, sku, version, price=wanted))


def _brand_routes(router: APIRouter, edge_of: EdgeOf) -> None:
    @router.post("/brands", openapi_extra=_documented(BrandBody, 201, answer=BrandView))
    async def create(request: Request) -> Response:
        """Make a brand; its name keeps a retry from making a second."""
        edge = edge_of()
        async with edge.admitted(request):
            body = await read_json(request, BrandBody)
            try:
                made = await edge.context.tree.add_brand(body.name)
            except NameTaken as taken:
                raise problems.NameInUse(taken.holder) from None
            return json_response(201, brand_view(made), {"Location": f"/v1/brands/{made.id}"})

    @router.get("/brands", openapi_extra=_documented(None, 200, *openapi.PAGING, answer=BrandList))
    async def listing(request: Request) -> Response:
        """By id."""
        edge = edge_of()
        async with edge.admitted(request):
            query = Query.of(request, "limit", "cursor")
            limit, after = query.limit, query.number_cursor(LARGEST_ID)
            page = [brand_view(one) for one in await edge.context.tree.brands(after, limit + 1)]
            return json_response(200, BrandList(page[:limit], str(page[limit - 1].id) if len(page) > limit else None))

    @router.get("/brands/{brand_id}", openapi_extra=_documented(None, 200, answer=BrandView))
    async def get(brand_id: str, request: Request) -> Response:
        """A brand as it is now."""
        edge = edge_of()
        async with edge.admitted(request):
            found = await edge.context.tree.brand(_small_id(brand_id))
            if found is None:
                raise problems.NoSuchBrand
            return json_response(200, brand_view(found))

    @router.put("/brands/{brand_id}", openapi_extra=_documented(BrandBody, 200, answer=BrandView))
    async def put(brand_id: str, request: Request) -> Response:
        """Rename it. All its products change in search."""
        edge = edge_of()
        async with edge.admitted(request):
            body, brand = await read_json(request, BrandBody), _small_id(brand_id)
            try:
                if not await edge.context.tree.rename_brand(brand, body.name):
                    raise problems.NoSuchBrand
            except NameTaken as taken:
                raise problems.NameInUse(taken.holder) from None
            return json_response(200, BrandView(brand, body.name))

    @router.delete("/brands/{brand_id}", status_code=204, openapi_extra=_documented(None, 204, answer=None))
    async def delete(brand_id: str, request: Request) -> Response:
        """End a brand that has no products."""
        edge = edge_of()
        async with edge.admitted(request):
            try:
                if not await edge.context.tree.delete_brand(_small_id(brand_id)):
                    raise problems.NoSuchBrand
            except StillUsed:
                raise problems.InUse("brand") from None
            return Response(status_code=204)


def _category_routes(router: APIRouter, edge_of: EdgeOf) -> None:
    @router.post("/categories", openapi_extra=_documented(CategoryBody, 201, answer=CategoryView))
    async def create(request: Request) -> Response:
        """Make a category below one that exists; its path keeps a retry from making a second."""
        edge = edge_of()
        async with edge.admitted(request):
            body = await read_json(request, CategoryBody)
            try:
                made = await edge.context.tree.add_category(body.path, body.names)
            except NameTaken as taken:
                raise problems.NameInUse(taken.holder) from None
            if made is None:
                raise problems.UnknownReference("path")
            return json_response(201, category_view(made), {"Location": f"/v1/categories/{made.id}"})

    @router.get("/categories", openapi_extra=_documented(None, 200, *openapi.PAGING, answer=CategoryList))
    async def listing(request: Request) -> Response:
        """By path: parents before children."""
        edge = edge_of()
        async with edge.admitted(request):
            query = Query.of(request, "limit", "cursor")
            limit, after = query.limit, query.text_cursor(_PATH)
            page = [category_view(one) for one in await edge.context.tree.categories(after, limit + 1)]
            return json_response(200, CategoryList(page[:limit], page[limit - 1].path if len(page) > limit else None))

    @router.get("/categories/{category_id}", openapi_extra=_documented(None, 200, answer=CategoryView))
    async def get(category_id: str, request: Request) -> Response:
        """A category as it is now."""
        edge = edge_of()
        async with edge.admitted(request):
            found = await edge.context.tree.category(_small_id(category_id))
            if found is None:
                raise problems.NoSuchCategory
            return json_response(200, category_view(found))

    @router.put("/categories/{category_id}", openapi_extra=_documented(NamesBody, 200, answer=CategoryView))
    async def put(category_id: str, request: Request) -> Response:
        """Replace its names. All its products change in search; the path stays, since links and filters hold it."""
        edge = edge_of()
        async with edge.admitted(request):
            body = await read_json(request, NamesBody)
            found = await edge.context.tree.rename_category(_small_id(category_id), body.names)
            if found is None:
                raise problems.NoSuchCategory
            return json_response(200, category_view(found))

    @router.delete("/categories/{category_id}", status_code=204, openapi_extra=_documented(None, 204, answer=None))
    async def delete(category_id: str, request: Request) -> Response:
        """End a category that has neither products nor categories below it."""
        edge = edge_of()
        async with edge.admitted(request):
            try:
                if not await edge.context.tree.delete_category(_small_id(category_id)):
                    raise problems.NoSuchCategory
            except StillUsed:
                raise problems.InUse("category") from None
            return Response(status_code=204)


def _import_routes(router: APIRouter, edge_of: EdgeOf) -> None:
    @router.post("/imports", openapi_extra=_documented_import())
    async def run(request: Request) -> Response:
        """Products, one JSON object a line, made or brought up to date by their SKU. Lines are committed in portions.

        The header Import-Id names the import, so that a broken one goes on: send all of it again, or what is missing, with
        the number of its first line in Import-First-Line. Lines that are decided already change nothing.
        """
        edge = edge_of()
        _require_lines(request)
        name, first = _import_name(request), _first_line(request)
        async with edge.importing(request) as owner:
            done = await run_import(edge.context, owner, name, first, request.stream())
            errors = [_bad_line(bad) for bad in done.errors[:TOLD]]
            result = ImportResult(_import_view(done.now), done.skipped, errors)
            return json_response(200, result, {"Location": f"/v1/imports/{name}"})

    @router.get("/imports/{import_id}", openapi_extra=_documented(None, 200, answer=ImportView))
    async def get(import_id: str, request: Request) -> Response:
        """Where an import stands: it goes on at `next_line`."""
        edge = edge_of()
        async with edge.admitted(request) as owner:
            return json_response(200, _import_view(await _import(edge, owner, import_id)))

    @router.get(
        "/imports/{import_id}/errors", openapi_extra=_documented(None, 200, *openapi.PAGING, answer=BadLineList)
    )
    async def errors(import_id: str, request: Request) -> Response:
        """Its bad lines, each with the reason."""
        edge = edge_of()
        async with edge.admitted(request) as owner:
            query = Query.of(request, "limit", "cursor")
            limit, after = query.limit, query.number_cursor(MOST_LINES)
            found = await _import(edge, owner, import_id)
            rows = await edge.context.imports.errors(owner, found.id, after, limit + 1)
            page = [_bad_line(row) for row in rows]
            return json_response(
                200, BadLineList(page[:limit], str(page[limit - 1].line) if len(page) > limit else None)
            )


async def _import(edge: Edge, owner: str, name: str) -> Import:
    found = await edge.context.imports.get(owner, name) if _IMPORT.fullmatch(name) else None
    if found is None:
        raise problems.NoSuchImport
    return found


def _require_lines(request: Request) -> None:
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower()
    plain = request.headers.get("content-encoding", "identity").strip().lower() == "identity"
    if media_type.strip().lower() != "application/x-ndjson" or charset not in ("", "charset=utf-8") or not plain:
        raise problems.NotLines


def _import_name(request: Request) -> str:
    given = request.headers.get("import-id")
    if given is None:
        return ids.encode("imp", ids.uuid7())
    if not _IMPORT.fullmatch(given):
        raise problems.InvalidImport("Import-Id is 1 to 100 letters, digits, dots, underscores and hyphens.")
    return given


def _first_line(request: Request) -> int:
    given = request.headers.get("import-first-line", "1")
    if not _NUMBER.fullmatch(given):
        raise problems.InvalidImport("Import-First-Line is the number of the body's first line, counted from 1.")
    if given != "1" and "import-id" not in request.headers:
        raise problems.InvalidImport("Import-First-Line needs the Import-Id of the import that goes on.")
    return int(given)


def _import_view(found: Import) -> ImportView:
    return msgspec.convert(found, ImportView, from_attributes=True)


def _bad_line(bad: Bad) -> BadLine:
    return BadLine(bad.line, bad.problem)


def _created(made: handlers.Created) -> Response:
    headers = {"Location": f"/v1/products/{ids.encode(PREFIX, made.product)}", "ETag": '"1"'}
    if made.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(made.body, 201, headers, media_type="application/json")


def _product(stored: Stored) -> Response:
    view = product_view(stored)
    return json_response(200, view, {"Location": f"/v1/products/{view.id}", "ETag": f'"{view.version}"'})


def _product_id(text: str) -> UUID:
    product = ids.decode(PREFIX, text)
    if product is None:
        raise problems.NoSuchProduct
    return product


def _small_id(text: str) -> int:
    """Of a brand or category; 0, which none has, for what can be none's."""
    number = int(text) if _NUMBER.fullmatch(text) else 0
    return number if number <= LARGEST_ID else 0


async def _key_of(request: Request) -> handlers.Key | None:
    """Of a request that may have none."""
    key = optional_idempotency_key(request)
    if key is None:
        return None
    try:
        return handlers.Key(key, fingerprint("POST /v1/products", await request.body()))
    except ValueError:
        return None  # not JSON: it is refused when it is read


_KEY_HEADER = openapi.idempotency_key("The same key and body get the same answer for CATALOG_KEY_LIFETIME_HOURS.")
_IMPORT_HEADERS = [
    openapi.header("Import-Id", "^[A-Za-z0-9._-]{1,100}$", "Names the import; without it there is a new one."),
    openapi.header("Import-First-Line", "^[1-9][0-9]*$", "The number of the body's first line; 1 if it is not given."),
]


_SKU_PARAMETER = openapi.query("sku", {"type": "string"}, "The one product that has it, itself or as a variant")


def _documented(
    body: type | None, status: int, *parameters: dict[str, Any], answer: type | None = ProductView
) -> dict[str, Any]:
    return openapi.documented(body, status, answer=answer, parameters=parameters)


def _documented_import() -> dict[str, Any]:
    lines = {"required": True, "content": openapi.content(ProductBody, "application/x-ndjson")}
    return openapi.documented(None, 200, answer=ImportResult, parameters=_IMPORT_HEADERS) | {"requestBody": lines}
