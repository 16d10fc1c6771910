"""Who may ask the console for what: the outermost layer, before any route.

The console can kill processes, so a web page of somebody else must not reach it through the learner's browser. Against DNS
rebinding the Host header must be ours; against cross-site requests a change needs this process's token and our own origin.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.kit.errors import Problem

TOKEN_HEADER = "x-console-token"  # noqa: S105  the name of a header
READING = frozenset({"GET", "HEAD"})
RECEIVER = "/alerts"
"""Alertmanager has no token; it is no browser, and browsers are told from it by their headers."""
DOCKER_HOST = "host.docker.internal"
CHART_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='"
)
"""What plotly's script puts into the page: an empty sheet that it fills, and its maps'. The browser test sees a change."""
CSP = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {CHART_STYLES}; style-src-attr 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""A report is one file with its styles inside, and no script."""
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}


def new_token() -> str:
    """Of this process; in the pages' meta tag and nowhere else."""
    return secrets.token_urlsafe(32)


class Guard:
    """Checks Host, origin and token; adds the headers that browsers heed."""

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app = app
        self._token = token
        self._hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
        self._receiver_hosts = self._hosts | {f"{DOCKER_HOST}:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        problem = self.refusal(str(scope["method"]), str(scope["path"]), Headers(scope=scope))
        if problem is not None:
            await problem.response()(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def refusal(self, method: str, path: str, headers: Headers) -> Problem | None:
        """Why a request is not let through; None if it is."""
        receives = path == RECEIVER
        if headers.get("host", "").lower() not in (self._receiver_hosts if receives else self._hosts):
            detail = "Open the address that make console prints; other names for this machine are refused."
            return Problem(421, "wrong_host", "The console does not answer under this name", detail=detail)
        if receives:
            return _from_browser(headers)
        if not self._own_origin(headers):
            return Problem(403, "foreign_origin", "The request came from another site's page")
        if method in READING:
            return self._foreign_read(path, headers)
        given = headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode()):
            detail = "The page is older than the console's process. Reload it, then try again."
            return Problem(403, "wrong_token", "The request does not carry this console's token", detail=detail)
        return None

    def _own_origin(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        return origin is None or origin in {f"http://{host}" for host in self._hosts}

    @staticmethod
    def _foreign_read(path: str, headers: Headers) -> Problem | None:
        """Links from elsewhere may open a page; only our own pages may read data."""
        if path.startswith("/api/") and headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}:
            return Problem(403, "foreign_origin", "The request came from another site's page")
        return None


def _from_browser(headers: Headers) -> Problem | None:
    if _any(headers, ("origin", "sec-fetch-site", "sec-fetch-mode")):
        return Problem(403, "not_for_browsers", "Alerts are sent here by Alertmanager, not by pages")
    return None


def _any(headers: Headers, names: Iterable[str]) -> bool:
    return any(name in headers for name in names)
