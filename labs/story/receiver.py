"""The merchant's endpoint: registered once with the webhook service, and found again by its address."""

from __future__ import annotations

from labs.story.house import Outside
from labs.story.judges import PAID, as_text, field_of
from labs.week02.webhook_endpoints import KEY, secret_of

NUMBER = 1000
"""The last of the simulator's receivers."""
MOST_PAGES = 50


class NoReceiver(Exception):
    """The endpoint cannot be had; says why in one sentence."""


_Body = dict[str, object]


async def ensure(outside: Outside) -> None:
    """Have the receiver told of captured payments. Raises NoReceiver, and what Outside raises."""
    variable = outside.house.variable
    url = f"http://{variable('SIM_RECEIVERS_HOST')}:{variable('SIM_RECEIVERS_HOOKS_PORT')}/r/{NUMBER}"
    there = await _find(outside, url)
    if there == "enabled":
        return
    if there:
        enabled: _Body = {"enabled": True}
        answer = await outside.call("PATCH", "webhooks-api", f"/v1/endpoints/{there}", key=KEY, body=enabled)
    else:
        secret = secret_of(NUMBER, variable("SIM_RECEIVERS_SECRET"))
        made: _Body = {"url": url, "event_types": [PAID], "secret": secret}
        answer = await outside.call("POST", "webhooks-api", "/v1/endpoints", key=KEY, body=made)
    if answer.status not in (200, 201):
        said = as_text(field_of(answer.document, "title"))
        raise NoReceiver(f"The merchant's endpoint was not registered: {answer.status} {said}".rstrip())


async def _find(outside: Outside, url: str) -> str:
    """ "enabled", the id of one that is not, or ""."""
    cursor = ""
    for _ in range(MOST_PAGES):
        answer = await outside.call("GET", "webhooks-api", f"/v1/endpoints?limit=100{cursor}", key=KEY)
        data = field_of(answer.document, "data")
        for each in data if isinstance(data, list) else ():
            if each.get("url") == url and each.get("event_types") in (None, [PAID]):
                return "enabled" if each.get("enabled") else str(each["id"])
        following = field_of(answer.document, "next_cursor")
        if not following:
            return ""
        cursor = f"&cursor={following}"
    return ""
