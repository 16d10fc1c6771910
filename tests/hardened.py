"""A scratch compose file as the repository's own is: its containers may as little, and its image is built by one service."""

from __future__ import annotations

from typing import Any

import yaml

from tests.documents import compose

_KEYS = ("init", "user", "read_only", "cap_drop", "security_opt", "tmpfs")


def hardened(text: str) -> str:
    """The file with each service limited as the real one of the same image, and those that build as our processes."""
    document: dict[str, Any] = yaml.safe_load(text)
    bodies: list[dict[str, Any]] = list(document["services"].values())
    for body in bodies:
        body.update({key: value for key, value in _twin(body).items() if key in _KEYS})
    for body in [body for body in bodies if "build" in body][1:]:
        del body["build"]
    return yaml.safe_dump(document, sort_keys=False)


def _twin(body: dict[str, Any]) -> dict[str, Any]:
    if "build" in body:
        own: dict[str, Any] = compose()["x-process"]
        return own
    return next(real for real in compose()["services"].values() if real["image"] == body["image"])
