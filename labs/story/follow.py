"""Does one checkout and follows it from station to station, until all is well or a station says what is missing."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import quote

from infra.runtime import RuntimeProblem
from labs.console.traces import NoSuchTrace, Trace, TracesAway, TraceStore
from labs.story import article, judges, receiver
from labs.story.article import Article, NoArticle
from labs.story.house import AWAY, Outside
from labs.story.judges import Answer, Judged, Says, as_text, done, field_of, not_yet, wrong
from labs.story.record import Station, Story, now
from services.contracts.topics import CRON_RECONCILIATIONS, PAYMENT_EVENTS
from services.kit import ids

MERCHANT_KEY = "lab_demo_merchant_key"
CRON_KEY = "lab_demo_cron_key"
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.2
STORY_PROCESSES = (
    "checkout-api", "payments-api", "sim-bank", "payments-relay", "webhooks-source", "webhooks-dispatcher", "sim-receivers",
    "catalog-sales", "search-indexer",
)  # fmt: skip
JOB_PROCESSES = ("cron-scheduler", "payments-reconciler", "sim-bank")

CHARGES = """
SELECT c.id, c.status, c.currency, coalesce(sum(e.amount) FILTER (WHERE e.kind = 'capture'), 0)::bigint AS captured
FROM charges c LEFT JOIN effects e ON e.charge_id = c.id WHERE c.source = $1 GROUP BY c.id ORDER BY c.created_at
"""
CALLS = "SELECT status, verified FROM requests WHERE event_id = $1 AND receiver = $2 ORDER BY id"
SALES = "SELECT event_id, quantity, short FROM sales WHERE payment_id = $1"
PRODUCT = "SELECT stock, popularity FROM products WHERE id = $1::text::uuid"
ROUND = "SELECT outcome, traceparent FROM scheduled_reconciliations WHERE run_id = $1"
OPERATION = """
SELECT o.bank_reference, o.resolved_at FROM operations o WHERE o.payment_id = $1::text::uuid AND o.kind = 'authorise'
"""
FINDINGS = """
SELECT kind FROM reconciliation_findings
WHERE cleared_at IS NULL AND (payment_id = $1::text::uuid OR subject = $2) ORDER BY kind
"""


class Stop(StrEnum):
    """The stations, in their order."""

    PRODUCT = "product"
    BEFORE = "before"
    CHECKOUT = "checkout"
    BANK = "bank"
    EVENT = "event"
    WEBHOOK = "webhook"
    STOCK = "stock"
    SEARCH = "search"
    CRON = "cron"
    RECONCILED = "reconciled"
    TRACE = "trace"


STATIONS = {
    Stop.PRODUCT: ("There is something to buy", "the catalogue's API"),
    Stop.BEFORE: ("Search shows it", "search's answer"),
    Stop.CHECKOUT: ("The checkout is paid", "the till's answer"),
    Stop.BANK: ("The card is charged once", "the bank's own record"),
    Stop.EVENT: ("The event is told", "the topic"),
    Stop.WEBHOOK: ("The webhook arrives", "the receiver's own record"),
    Stop.STOCK: ("The stock goes down", "the catalogue's tables"),
    Stop.SEARCH: ("Search shows it, too", "search's answer"),
    Stop.CRON: ("A scheduled job runs", "cron's account of its runs"),
    Stop.RECONCILED: ("It reconciles", "the reconciler's tables, the bank's settlement file"),
    Stop.TRACE: ("One trace", "the trace store"),
}


def new_story(sku: str, quantity: int) -> Story:
    """Nothing has happened yet."""
    name = secrets.token_hex(5)
    stations = [Station(stop.value, title, where) for stop, (title, where) in STATIONS.items()]
    return Story(name, sku, quantity, now(), stations, trace_id=secrets.token_hex(16))


Tell = Callable[[Story, Station], None]
"""Called whenever a station changes."""


@dataclass(slots=True)
class Follower:
    """Runs once. `traces` is the base URL of who keeps them. `named`: see article.find."""

    outside: Outside
    traces: str
    story: Story
    tell: Tell
    named: str = ""
    patience: float = PATIENCE_SECONDS
    begun: float = field(default_factory=time.monotonic)
    since_ms: int = 0
    job: str = ""
    run_id: str = ""
    event_id: str = ""
    _article: Article | None = None

    @property
    def article(self) -> Article:
        """Known once the first station is done."""
        assert self._article is not None
        return self._article

    @property
    def amount(self) -> int:
        """Of the checkout, in minor units."""
        return self.article.price * self.story.quantity

    async def run(self) -> bool:
        """All stations in order; False if one stopped the story, which then says so."""
        try:
            for station in self.story.stations:
                if not await self._station(station, self._looks()[Stop(station.name)]):
                    return False
        finally:
            await self._end_job()
        self.story.state = "done"
        self.tell(self.story, self.story.stations[-1])
        return True

    def _looks(self) -> dict[Stop, Callable[[], Awaitable[Judged]]]:
        return {
            Stop.PRODUCT: self._product,
            Stop.BEFORE: self._before,
            Stop.CHECKOUT: self._checkout,
            Stop.BANK: self._bank,
            Stop.EVENT: self._event,
            Stop.WEBHOOK: self._webhook,
            Stop.STOCK: self._stock,
            Stop.SEARCH: self._search,
            Stop.CRON: self._cron,
            Stop.RECONCILED: self._reconciled,
            Stop.TRACE: self._trace,
        }

    async def _station(self, station: Station, look: Callable[[], Awaitable[Judged]]) -> bool:
        station.state = "now"
        self.tell(self.story, station)
        until = time.monotonic() + self.patience
        while True:
            judged = await self._look(look)
            if judged.says is not Says.NOT_YET or time.monotonic() > until:
                break
            if station.says != judged.sentence:
                station.says = judged.sentence
                self.tell(self.story, station)
            await asyncio.sleep(LOOK_SECONDS)
        station.says = judged.sentence
        station.seconds = round(time.monotonic() - self.begun, 3)
        station.state = "done" if judged.says is Says.DONE else "stopped"
        if judged.says is not Says.DONE:
            waited = f" for {self.patience:.0f} s" if judged.says is Says.NOT_YET else ""
            self.story.state = "stopped"
            self.story.problem = f"The story stopped at '{station.title}' ({station.where}){waited}: {judged.sentence}."
        self.tell(self.story, station)
        return judged.says is Says.DONE

    @staticmethod
    async def _look(look: Callable[[], Awaitable[Judged]]) -> Judged:
        try:
            return await look()
        except (RuntimeProblem, NoArticle, receiver.NoReceiver) as problem:
            return wrong(str(problem).rstrip("."))
        except AWAY as error:
            return not_yet(f"it does not answer ({type(error).__name__})")

    # --- the stations ---------------------------------------------------------------------------------------------------

    async def _product(self) -> Judged:
        self._article = await article.find(self.outside, self.named, self.story.quantity)
        await receiver.ensure(self.outside)
        self.story.sku, self.story.product = self.article.sku, self.article.id
        price = f"{self.article.price} {self.article.currency}"
        return done(f"{self.article.sku}, {self.article.title}: {self.article.figures}, {price} (minor units)")

    async def _before(self) -> Judged:
        # Somebody else's sale may have come meanwhile: what search shows is compared with the catalogue as it is now.
        self._article = await article.find(self.outside, self.article.sku, self.story.quantity)
        return await self._shown(self.article.figures)

    async def _checkout(self) -> Judged:
        self.begun, self.since_ms = time.monotonic(), time.time_ns() // 1_000_000 - 1000
        reference = f"story-{self.story.id}"
        body = {
            "amount": self.amount, "currency": self.article.currency, "source": f"tok_{reference}",
            "reference": reference, "sku": self.article.sku, "quantity": self.story.quantity,
        }  # fmt: skip
        answer = await self.outside.call(
            "POST", "checkout-api", "/v1/checkouts", key=MERCHANT_KEY, body=body,
            headers={"Idempotency-Key": reference, "traceparent": self.traceparent},
        )  # fmt: skip
        says = as_text(field_of(answer.document, "status" if answer.status < 300 else "title"))
        if answer.status == 202 or answer.status >= 500:
            return not_yet(f"the till answered {answer.status} {says}; the same key asks again")
        self.story.payment = as_text(field_of(answer.document, "payment"))
        return judges.paid(Answer(answer.status, says, self.story.payment))

    @property
    def traceparent(self) -> str:
        """The story's root, kept whatever the processes' own share is."""
        return f"00-{self.story.trace_id}-{self.story.trace_id[:16]}-01"

    async def _bank(self) -> Judged:
        rows = await self.outside.sql("bank", CHARGES, f"tok_story-{self.story.id}")
        return judges.charged([judges.Charge(**row) for row in rows], self.amount, self.article.currency)

    async def _event(self) -> Judged:
        records = await self.outside.records(PAYMENT_EVENTS, self.story.payment, self.since_ms)
        events = [
            judges.Event(
                each.headers.get("ce_id", ""),
                each.headers.get("ce_type", ""),
                each.partition,
                each.offset,
                each.headers.get("traceparent", "")[3:35],
            )
            for each in records
        ]
        self.event_id = next((each.id for each in events if each.type == judges.PAID), "")
        return judges.published(events, self.story.trace_id)

    async def _webhook(self) -> Judged:
        rows = await self.outside.sql("receivers", CALLS, self.event_id, receiver.NUMBER)
        return judges.delivered([judges.Call(**row) for row in rows])

    async def _stock(self) -> Judged:
        rows = await self.outside.sql("catalog", SALES, self.story.payment)
        (now_,) = await self.outside.sql("catalog", PRODUCT, self.article.uuid) or ({"stock": 0, "popularity": 0},)
        sales = [judges.Sold(**row) for row in rows]
        return judges.taken(sales, self.event_id, self.story.quantity, self.article.figures, judges.Figures(**now_))

    async def _search(self) -> Judged:
        before, sold = self.article.figures, self.story.quantity
        return await self._shown(judges.Figures(before.stock - sold, before.popularity + sold))

    async def _shown(self, wanted: judges.Figures) -> Judged:
        asked = quote(f'sku:"{self.article.sku}"')
        path = f"/v1/search?q={asked}&fields=sku,stock,popularity&facets=none&limit=50"
        answer = await self.outside.call("GET", "search-api", path, headers={"Cache-Control": "no-cache"})
        if answer.status != 200:
            return not_yet(f"search answered {answer.status} {as_text(field_of(answer.document, 'title'))}".rstrip())
        hits = field_of(answer.document, "hits")
        for hit in hits if isinstance(hits, list) else ():
            if hit.get("id") == self.article.id:
                return judges.shown(judges.Figures(int(hit.get("stock", -1)), int(hit.get("popularity", -1))), wanted)
        return judges.shown(None, wanted)

    async def _cron(self) -> Judged:
        if not self.job and (refused := await self._order_job()):
            return wrong(refused)
        answer = await self.outside.call("GET", "cron-api", f"/v1/jobs/{self.job}/runs", key=CRON_KEY)
        data = field_of(answer.document, "data")
        runs = [
            judges.Run(
                str(each["id"]), str(each["state"]), as_text(each["reason"]), as_text(each["node"]), each["attempts"]
            )
            for each in (reversed(data) if isinstance(data, list) else ())
        ]
        self.run_id = next((each.id for each in runs if each.state in judges.ENDED_WELL), "")
        return judges.fired(runs)

    async def _order_job(self) -> str:
        """What was refused, "" if nothing."""
        target = {"topic": CRON_RECONCILIATIONS.name, "body": {"because": self.traceparent}}
        body = {"name": f"story-{self.story.id}", "schedule": {"every_seconds": 1}, "target": {"kafka": target}}
        answer = await self.outside.call("POST", "cron-api", "/v1/jobs", key=CRON_KEY, body=body)
        if answer.status not in (201, 409):
            return f"cron refused the job: {answer.status} {as_text(field_of(answer.document, 'title'))}".rstrip()
        self.job = as_text(field_of(answer.document, "id" if answer.status == 201 else "job"))
        return "" if self.job else "cron made a job without an id"

    async def _end_job(self) -> None:
        if self.job:
            await self._look(self._deleted)

    async def _deleted(self) -> Judged:
        await self.outside.call("DELETE", "cron-api", f"/v1/jobs/{self.job}", key=CRON_KEY)
        return done("the job is ended")

    async def _reconciled(self) -> Judged:
        payment = str(ids.decode("pay", self.story.payment))
        rounds = await self.outside.sql("payments", ROUND, self.run_id)
        operations = await self.outside.sql("payments", OPERATION, payment)
        if not rounds or not operations:
            return judges.reconciled(judges.Comparison("", None, ()), self.amount)
        self.story.job_trace_id = as_text(rounds[0]["traceparent"])[3:35]
        reference, resolved = str(operations[0]["bank_reference"]), operations[0]["resolved_at"]
        findings = await self.outside.sql("payments", FINDINGS, payment, reference)
        settled = await self._settled(reference, resolved or datetime.now(UTC))
        kinds = tuple(str(row["kind"]) for row in findings)
        return judges.reconciled(judges.Comparison(str(rounds[0]["outcome"]), settled, kinds), self.amount)

    async def _settled(self, reference: str, at: datetime) -> int | None:
        path = f"/v1/settlements/{at.astimezone(UTC).date()}.csv"
        answer = await self.outside.call("GET", "sim-bank", path, key=self.outside.house.variable("SIM_BANK_API_KEY"))
        lines = [line.split(",") for line in answer.text.splitlines()]
        return next((int(line[3]) for line in lines if len(line) > 3 and line[1] == reference), None)

    async def _trace(self) -> Judged:
        try:
            store = TraceStore(self.outside.http)
            story, job = [await self._kept(store, each) for each in (self.story.trace_id, self.story.job_trace_id)]
        except TracesAway:
            return not_yet("nobody keeps traces now")
        linked = frozenset(link for span in (job.spans if job else ()) for link in span.links)
        seen = judges.Traces(_processes(story), _processes(job), linked)
        return judges.traced(seen, self.story.trace_id, STORY_PROCESSES, JOB_PROCESSES)

    async def _kept(self, store: TraceStore, trace_id: str) -> Trace | None:
        try:
            return await store.get(self.traces, trace_id)
        except NoSuchTrace:
            return None


def _processes(trace: Trace | None) -> frozenset[str]:
    return frozenset(() if trace is None else trace.services)
