"""Each station's judge: green on what ought to be seen, and red on the bug that it is there for."""

from __future__ import annotations

import pytest

from labs.story import judges
from labs.story.judges import (
    Answer,
    Call,
    Charge,
    Comparison,
    Event,
    Figures,
    Judged,
    Run,
    Says,
    Sold,
    Traces,
)

BEFORE, AFTER = Figures(10, 5), Figures(8, 7)
TRACE = "a" * 32
CHARGE = Charge("ch_1", "captured", 2500, "EUR")
EVENT = Event("evt_1", judges.PAID, 3, 17, TRACE)
SOLD = Sold("evt_1", 2, 0)
RUN = Run("run_1", "fired", "", "cron-scheduler-1", 1)
COMPARED = Comparison("compared", 2500, ())
STORY, JOB = ("till", "bank"), ("cron",)
SEEN = Traces(frozenset({"till", "bank"}), frozenset({"cron"}), frozenset({TRACE}))


def taken(*sales: Sold, after: Figures = AFTER) -> Judged:
    return judges.taken(sales, "evt_1", 2, BEFORE, after)


def traced(traces: Traces) -> Judged:
    return judges.traced(traces, TRACE, STORY, JOB)


@pytest.mark.parametrize(
    "judged",
    [
        judges.shown(AFTER, AFTER),
        judges.paid(Answer(201, "paid", "pay_1")),
        judges.charged([CHARGE], 2500, "EUR"),
        judges.published([Event("evt_0", "payments.payment.authorised", 3, 16, TRACE), EVENT, EVENT], TRACE),
        judges.delivered([Call(500, True), Call(204, True)]),
        taken(SOLD),
        judges.fired([Run("run_0", "waiting", "", "", 0), RUN]),
        judges.fired([Run("run_0", "late", "", "n", 1)]),
        judges.reconciled(COMPARED, 2500),
        traced(SEEN),
    ],
)
def test_what_ought_to_be_seen_lets_the_story_go_on(judged: Judged) -> None:
    assert judged.says is Says.DONE
    assert judged.sentence


@pytest.mark.parametrize(
    ("judged", "sentence"),
    [
        (judges.shown(None, AFTER), "does not find"),
        (judges.shown(BEFORE, AFTER), "search shows stock 10, popularity 5, the catalogue has stock 8, popularity 7"),
        (judges.charged([], 2500, "EUR"), "no charge"),
        (judges.charged([Charge("ch_1", "authorised", 0, "EUR")], 2500, "EUR"), "captured nothing"),
        (judges.published([], TRACE), "no event"),
        (judges.published([Event("evt_1", "payments.payment.failed", 0, 0, TRACE)], TRACE), "no event"),
        (judges.delivered([]), "no webhook has arrived"),
        (judges.delivered([Call(None, True), Call(500, True)]), "none was taken; the last answer was 500"),
        (taken(), "has not heard"),
        (judges.fired([]), "no run"),
        (judges.fired([Run("run_1", "firing", "", "n", 1)]), "no run"),
        (judges.reconciled(Comparison("", None, ()), 2500), "keeps nothing"),
        (traced(Traces(frozenset({"till"}), frozenset({"cron"}), frozenset({TRACE}))), "no span of bank"),
        (traced(Traces(frozenset({"till", "bank"}), frozenset(), frozenset())), "job's trace has no span of cron"),
    ],
)
def test_what_may_still_come_is_waited_for(judged: Judged, sentence: str) -> None:
    assert judged.says is Says.NOT_YET
    assert sentence in judged.sentence


@pytest.mark.parametrize(
    ("judged", "sentence"),
    [
        (judges.paid(Answer(402, "The card was declined", "")), "402 The card was declined"),
        (judges.paid(Answer(201, "failed", "pay_1")), "201 failed"),
        (judges.charged([CHARGE, CHARGE], 2500, "EUR"), "charged the card 2 times"),
        (judges.charged([Charge("ch_1", "captured", 2400, "EUR")], 2500, "EUR"), "2400 EUR instead of 2500 EUR"),
        (judges.charged([Charge("ch_1", "captured", 2500, "USD")], 2500, "EUR"), "2500 USD instead of 2500 EUR"),
        (judges.published([EVENT, Event("evt_2", judges.PAID, 3, 18, TRACE)], TRACE), "several event ids"),
        (judges.published([Event("evt_1", judges.PAID, 3, 17, "b" * 32)], TRACE), "another trace"),
        (judges.delivered([Call(200, False)]), "signature is wrong"),
        (taken(SOLD, SOLD), "took the sale 2 times"),
        (taken(Sold("evt_2", 2, 0)), "another event's id"),
        (taken(Sold("evt_1", 1, 0)), "took 1 instead of 2"),
        (taken(Sold("evt_1", 2, 1)), "sold 1 more than there were"),
        (taken(SOLD, after=Figures(8, 5)), "instead of stock 8, popularity 7"),
        (taken(SOLD, after=Figures(6, 9)), "does somebody else change it"),
        (judges.fired([Run("run_1", "failed", "no_such_topic", "n", 1)]), "run_1 failed: no_such_topic"),
        (judges.reconciled(Comparison("malformed_file", 2500, ()), 2500), "could not compare: malformed_file"),
        (judges.reconciled(Comparison("compared", None, ()), 2500), "no line of this payment"),
        (judges.reconciled(Comparison("compared", 2400, ()), 2500), "settles 2400 instead of 2500"),
        (judges.reconciled(Comparison("compared", 2500, ("amount",)), 2500), "findings about this payment: amount"),
        (traced(Traces(SEEN.story, SEEN.job, frozenset())), "points at the story's"),
    ],
)
def test_what_no_waiting_mends_stops_the_story(judged: Judged, sentence: str) -> None:
    assert judged.says is Says.WRONG
    assert sentence in judged.sentence
