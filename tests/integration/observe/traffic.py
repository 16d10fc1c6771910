"""A little of everything, so that every panel has something to show: each service once a round, and one fault."""

from __future__ import annotations

import json
import threading
import uuid
from dataclasses import dataclass, field

import requests

from infra.runtime import Runtime

CALL_SECONDS = 10.0
ROUND_SECONDS = 0.5
SWITCHED = (200, 201, 204)
PAID = (201, 202, 503, 504)
"""What a client may hear while the bank loses answers; 500 is a bug."""
TAKEN = (202, 503, 504)
"""Likewise of a message while everything starts."""


@dataclass
class Traffic:
    """`prepare` once, then rounds in a thread until `stop`. Raises AssertionError for an answer that was not expected."""

    runtime: Runtime
    failures: list[str] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def prepare(self) -> None:
        """Endpoints that answer and that are gone, a job each two seconds, a bank that loses some answers."""
        hooks = f"http://127.0.0.1:{self.runtime.variable('SIM_RECEIVERS_HOOKS_PORT')}/r"
        self._ask("PUT", "sim-receivers", "/lab/behaviours/gone", {"first": 2, "count": 1}, SWITCHED)
        for receiver, types in ((1, ["observe.tested", "payments.payment.captured"]), (2, ["observe.tested"])):
            endpoint = {"url": f"{hooks}/{receiver}", "event_types": types}
            self._ask("POST", "webhooks-api", "/v1/endpoints", endpoint, (201,), key="lab_demo_application_key")
        target = f"http://127.0.0.1:{self.runtime.variable('SIM_TARGET_PORT')}/v1/effects"
        job = {"name": "observe", "schedule": {"every_seconds": 2}, "target": {"http": {"url": target}}}
        self._ask("POST", "cron-api", "/v1/jobs", job, (201,), key="lab_demo_cron_key", keyed=True)
        self._ask("PUT", "sim-bank", "/lab/behaviours/webhooks", {}, SWITCHED)
        self._ask("PUT", "sim-bank", "/lab/behaviours/loses_answer", {"share": 0.3}, SWITCHED)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._rounds, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def one_round(self) -> None:
        """A payment, a checkout that is looked at again, a message."""
        merchant, once = "lab_demo_merchant_key", uuid.uuid4().hex
        order = {"amount": 1250, "currency": "EUR", "source": "tok_observe", "reference": f"order-{once}"}
        self._ask("POST", "payments-api", "/v1/payments", order, PAID, key=merchant, keyed=True)
        order["reference"] = f"order-{once}-checkout"
        bought = self._ask("POST", "checkout-api", "/v1/checkouts", order, PAID, key=merchant, keyed=True)
        if "id" in bought:
            self._ask("GET", "checkout-api", f"/v1/checkouts/{bought['id']}", None, (200, 503, 504), key=merchant)
        message = {"event_id": f"evt-{once}", "event_type": "observe.tested", "payload": {"event_id": once}}
        self._ask("POST", "webhooks-api", "/v1/messages", message, TAKEN, key="lab_demo_application_key")

    def _rounds(self) -> None:
        while not self._stopped.wait(ROUND_SECONDS):
            try:
                self.one_round()
            except (AssertionError, requests.RequestException) as failure:
                self.failures.append(str(failure))

    def _ask(
        self,
        method: str,
        service: str,
        path: str,
        body: object,
        expected: tuple[int, ...],
        *,
        key: str = "",
        keyed: bool = False,
    ) -> dict[str, str]:
        host, port = self.runtime.address(service)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if keyed:
            headers["Idempotency-Key"] = uuid.uuid4().hex
        url = f"http://{host}:{port}{path}"
        data = None if body is None else json.dumps(body)
        headers["Content-Type"] = "application/json"
        answer = requests.request(method, url, data=data, headers=headers, timeout=CALL_SECONDS)
        assert answer.status_code in expected, f"{method} {path}: {answer.status_code} {answer.text[:200]}"
        return dict(answer.json()) if answer.content else {}
