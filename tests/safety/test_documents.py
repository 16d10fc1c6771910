"""The OpenAPI document of every service is true: whatever a request, its answer has a status, a type and a shape that are declared.

Requests are drawn by schemathesis from the documents that the running services serve: valid ones, with ids of things that exist
and with others, and broken ones. Drawn the same way each time; SAFETY_EXAMPLES=200 draws more of each kind than the usual 8.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode, Response
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.safety.apps import APPS, built
from tests.safety.city import Edge

pytestmark = pytest.mark.integration

AnyCase = Case[Any]
EXAMPLES = int(os.environ.get("SAFETY_EXAMPLES", "8"))
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
CONFIG = {"checks": {"negative_data_rejection": {"expected-statuses": ["4xx", "503", "504"]}}}
"""What counts as a refusal: without it, 412 for an ETag that none can be would not."""
TOLERANT = frozenset({"POST /v1/imports"})
"""A bad line of an import is counted and told, and the others are taken: 200."""
LATER = (503, 504)
"""The only 5xx that are declared: ask again after Retry-After."""


@schemathesis.serializer("application/x-ndjson")
def lines(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """The same object on three lines; what was made broken as it is."""
    if isinstance(value, bytes):
        return value
    return (msgspec.json.encode(value) + b"\n") * 3


def judged(case: AnyCase, response: Response) -> None:
    """Raises Failure or FailureGroup for an answer that the document does not declare."""
    tolerant = case.operation.label in TOLERANT
    case.validate_response(
        response, checks=[each for each in CHECKS if not (tolerant and each is negative_data_rejection)]
    )
    if response.status_code in LATER and "retry-after" not in response.headers:
        raise Failure(operation=case.operation.label, title="no Retry-After", message=str(response.content[:200]))


def faults_of(document: Mapping[str, Any], url: str, headers: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    """Asks every operation of the document; one sentence for each that answers as it should not."""
    schema = schemathesis.openapi.from_dict(dict(document), config=schemathesis.Config.from_dict(CONFIG))
    found = []
    with requests.Session() as session:
        session.trust_env = False
        for result in schema.get_all_operations():
            operation: Any = result.ok()  # type: ignore[union-attr]  # a document that cannot be read raises here
            real = {each.name: known[each.name] for each in operation.path_parameters if each.name in known}
            rounds: Iterable[tuple[GenerationMode, dict[str, str] | None]] = [
                (GenerationMode.POSITIVE, real or None),
                (GenerationMode.NEGATIVE, real or None),
                *([(GenerationMode.POSITIVE, None), (GenerationMode.NEGATIVE, None)] if real else []),
            ]
            for mode, path in rounds:
                drawn = operation.as_strategy(generation_mode=mode, path_parameters=path)

                @settings(
                    max_examples=EXAMPLES,
                    derandomize=True,
                    database=None,
                    deadline=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=drawn)
                def ask(case: AnyCase) -> None:
                    judged(case, case.call(base_url=url, session=session, headers=dict(headers), timeout=60))

                try:
                    ask()
                except (Failure, FailureGroup) as fault:
                    found.append(f"{operation.label}, {mode.value}: {explained(fault)}")
    return found


def explained(fault: BaseException) -> str:
    """All that was wrong with one answer, and the request, in one text."""
    notes = " ".join(getattr(fault, "__notes__", []))
    if isinstance(fault, FailureGroup):
        return (
            "; ".join(f"{each.title}: {each.message}" for each in fault.exceptions if isinstance(each, Failure)) + notes
        )
    return f"{fault} {notes}"


@pytest.mark.parametrize("service", APPS)
def test_every_answer_is_as_the_document_declares(edge: Edge, service: str) -> None:
    keys = {**edge.mine.headers, **(edge.operator if service == "search" else {})}
    assert "\n".join(faults_of(edge.document, edge.process.url, keys, edge.mine.owns)) == ""


# --- the judge finds what it looks for ------------------------------------------------------------------------------

PROBLEM = b'{"type":"urn:lab:x","title":"No","status":404}'
PAGE = b'{"data":[],"next_cursor":null}'


def case_of(label: tuple[str, str]) -> AnyCase:
    schema = schemathesis.openapi.from_dict(built("payments").openapi())
    path, method = label
    return schema[path][method].Case()


def answer(status: int, body: bytes, **headers: str) -> Response:
    request = requests.Request("GET", "http://127.0.0.1/v1/payments").prepare()
    given_headers = {name.replace("_", "-"): [value] for name, value in headers.items()}
    return Response(status, given_headers, body, request, 0.0, verify=False)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, PAGE, {"content_type": "application/json"}),
        (404, PROBLEM, {"content_type": "application/problem+json"}),
        (503, PROBLEM.replace(b"404", b"503"), {"content_type": "application/problem+json", "retry_after": "1"}),
    ],
)
def test_an_answer_that_is_declared_is_let_pass(status: int, body: bytes, headers: dict[str, str]) -> None:
    judged(case_of(("/v1/payments", "GET")), answer(status, body, **headers))


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        pytest.param(500, PROBLEM, {"content_type": "application/problem+json"}, id="an undeclared 5xx"),
        pytest.param(302, b"", {"content_type": "text/plain"}, id="a redirect"),
        pytest.param(200, b"<p>", {"content_type": "text/html"}, id="another type"),
        pytest.param(200, b'{"data":[]}', {"content_type": "application/json"}, id="a field is missing"),
        pytest.param(200, b"not json", {"content_type": "application/json"}, id="no JSON"),
        pytest.param(404, b'{"detail":"x"}', {"content_type": "application/problem+json"}, id="a problem without type"),
        pytest.param(404, PROBLEM, {"content_type": "application/json"}, id="a problem that says it is none"),
        pytest.param(503, PROBLEM, {"content_type": "application/problem+json"}, id="503 that says not when"),
    ],
)
def test_an_answer_that_is_not_declared_is_found(status: int, body: bytes, headers: dict[str, str]) -> None:
    with pytest.raises((Failure, FailureGroup)):
        judged(case_of(("/v1/payments", "GET")), answer(status, body, **headers))
