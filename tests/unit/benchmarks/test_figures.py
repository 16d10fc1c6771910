"""Each system's figures against its aims: met, missed and what cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.figures.cron import CronFigures
from benchmarks.figures.payments import ReconciliationFigures
from benchmarks.figures.profiles import ProfileFigures, ProfilesFigures
from benchmarks.figures.search import POPULAR_QUERIES, REMEMBERED_SECONDS, expected_misses
from benchmarks.figures.webhooks import WebhooksFigures
from benchmarks.rows import Figures, Row, Standing
from loadtests.search_client import read_queries
from services.search.settings import ApiSettings
from tests.unit.benchmarks.results import paid, searched


def row_of(figures: Figures, beginning: str) -> Row:
    (found,) = [row for row in figures.rows() if row.figure.startswith(beginning)]
    return found


@pytest.mark.parametrize(
    ("beginning", "planted"),
    [
        ("payments, durable", {"ratio": 0.29}),
        ("p99", {"p99_ms_at_half": 100.0}),
        ("relay", {"relay_events_per_second": 4_999}),
        ("memory", {"memory_mib": {"payments-api": 301.0}}),
        ("mistakes found", {"reconciliation": ReconciliationFigures(100, 1.0, 1.0, 10, 0.9, 0)}),
        ("false alarms", {"reconciliation": ReconciliationFigures(100, 1.0, 1.0, 10, 1.0, 1)}),
    ],
)
def test_each_aim_of_payments_can_be_missed(beginning: str, planted: dict[str, object]) -> None:
    good = paid(reconciliation=ReconciliationFigures(100, 1.0, 1.0, 10, 1.0, 0))
    assert row_of(good, beginning).standing is Standing.MET
    assert row_of(paid(**planted), beginning).standing is Standing.MISSED


def test_the_memory_that_is_aimed_at_is_not_the_databases() -> None:
    assert row_of(paid(), "memory").value == 50


def test_what_a_thousand_payments_a_second_take_is_added_up() -> None:
    (told,) = paid().sums()
    assert "1,000 payments/s need 3.0 cores" in told
    assert paid(cpu_ms_per_payment={}).sums() == []


@pytest.mark.parametrize(
    ("beginning", "planted"),
    [
        ("queries", {"api_per_second": [179.0]}),
        ("suggestions", {"suggest_p99_ms": 50.0}),
        ("from commit to found at 500", {"freshness_p99_seconds": {"500": 5.0}}),
    ],
)
def test_each_aim_of_a_small_search_can_be_missed(beginning: str, planted: dict[str, object]) -> None:
    assert row_of(searched(), beginning).standing is Standing.MET
    assert row_of(searched(50_000, **planted), beginning).standing is Standing.MISSED


def test_the_popular_mix_is_asked_of_a_million_documents_and_a_smaller_catalogue_cannot_tell() -> None:
    assert row_of(searched(), "popular mix, p99").standing is Standing.UNKNOWN
    assert row_of(searched(1_000_000), "popular mix, p99").standing is Standing.MET
    assert row_of(searched(1_000_000, popular_p99_ms=200.0), "popular mix, p99").standing is Standing.MISSED
    shed = searched(1_000_000, popular_ok_per_second=900.0)
    assert row_of(shed, "popular mix at").standing is Standing.MISSED


def test_freshness_at_a_rate_is_unknown_where_fewer_changes_were_made() -> None:
    row = row_of(searched(changes_per_second={"500": 300.0}), "from commit to found at 500")
    assert (row.standing, row.cannot_tell) == (Standing.UNKNOWN, "only 300 changes/s were made")


def test_what_a_query_costs_through_the_service_stands_beside_what_it_costs_the_engine_alone() -> None:
    row = row_of(searched(50_000, service_cpu_ms_per_query={"search-engine": 3.0, "search-api": 1.0}), "CPU of such")
    assert (row.shown, row.limit) == ("4.00 ms (search-engine 3.00 ms, search-api 1.00 ms)", "2.00 ms raw engine")
    assert row.ratio == 2


def test_the_cores_of_the_whole_course_are_from_the_slope_and_printed() -> None:
    assert searched(1_000_000).cores_for_the_course() == pytest.approx(0.02 * 1000 * expected_misses(1000), abs=0.05)
    assert f"0.0200 s × 1,000/s × {expected_misses(1000):.3f} = 1.2 cores" in searched(1_000_000).sums()[0]


def test_what_a_cache_lacks_follows_from_how_often_each_is_asked_and_how_long_it_is_remembered() -> None:
    queries = len(read_queries(Path(__file__).parents[3] / "loadtests" / "queries.txt"))
    assert (queries, ApiSettings.model_fields["cache_seconds"].default) == (POPULAR_QUERIES, REMEMBERED_SECONDS)
    assert 0.05 < expected_misses(1000) < 0.07
    assert expected_misses(1e-6) == pytest.approx(1, abs=0.01)
    assert expected_misses(1e9) == pytest.approx(POPULAR_QUERIES / REMEMBERED_SECONDS / 1e9, rel=0.01)


def test_answers_without_their_parts_do_not_count_as_answered() -> None:
    row = row_of(searched(1_000_000, popular_left_out=0.05), "popular mix at")
    assert row.standing is Standing.MET
    row = row_of(searched(1_000_000, popular_left_out=1.4), "popular mix at")
    assert (row.standing, row.cannot_tell) == (Standing.UNKNOWN, "answered with less than everything, see below")


def test_what_the_engine_used_for_the_popular_mix_is_the_slope_if_all_was_answered_in_full() -> None:
    kept_up = searched(1_000_000, popular_engine_cores=0.8, popular_left_out=0.005)
    assert kept_up.cores_for_the_course() == 8.0
    assert "0.80 cores of engine busy at 1,000/s of 1,000,000 documents" in kept_up.sums()[0]
    assert "8.0 cores of 10,000,000" in kept_up.sums()[0]


@pytest.mark.parametrize(
    "saturated", [{"popular_ok_per_second": 900.0}, {"popular_left_out": 0.3}, {"popular_offered": 0.0}]
)
def test_what_a_saturated_engine_used_is_not_what_it_would_have_taken(saturated: dict[str, object]) -> None:
    figures = searched(10_000_000, **{"popular_engine_cores": 1.4, "popular_left_out": 0.0} | saturated)
    assert figures.cores_for_the_course() == pytest.approx(0.002 * 1000 * expected_misses(1000), abs=0.05)


def test_second_searches_count_into_what_an_answer_costs() -> None:
    figures = searched(10_000_000, service_cpu_ms_per_query={"search-engine": 4.0, "search-api": 1.0})
    assert figures.cores_for_the_course() == pytest.approx(0.004 * 1000 * expected_misses(1000), abs=0.05)


def test_a_small_catalogue_has_no_slope_and_says_which_has() -> None:
    assert searched(50_000).cores_for_the_course() is None
    assert "`make bench system=search docs=1000000`" in searched(50_000).sums()[0]


@pytest.mark.parametrize(
    ("isolation", "noise", "standing"),
    [
        (0.97, 0.5, Standing.MET),
        (0.80, 0.98, Standing.MISSED),
        (0.80, 0.91, Standing.MISSED),
        (0.80, 0.85, Standing.UNKNOWN),
    ],
)
def test_a_miss_counts_only_if_the_machine_is_quiet_enough_to_tell(
    isolation: float, noise: float, standing: Standing
) -> None:
    figures = WebhooksFigures(
        isolation=isolation, isolation_noise=noise, with_hung_per_second=[1.0], undisturbed_per_second=[1.0]
    )
    assert row_of(figures, "900 endpoints").standing is standing


@pytest.mark.parametrize(
    ("beginning", "good", "bad"),
    [
        ("fired", {"jitter_fired": 10_000}, {"jitter_fired": 9_999}),
        ("lateness past the jittered instant, p99", {"jitter_fired": 1, "jitter_p99_seconds": 1.9},
         {"jitter_fired": 1, "jitter_p99_seconds": 2.0}),
        ("leader told", {"handover_seconds": [0.2, 0.9]}, {"handover_seconds": [0.2, 1.0]}),
        ("leader killed", {"failover_seconds": [4.9]}, {"failover_seconds": [1.0, 5.1]}),
        ("memory", {"memory_mib": {"cron-api": 299.0, "kafka": 400.0}}, {"memory_mib": {"cron-api": 300.0}}),
    ],
)  # fmt: skip
def test_each_aim_of_cron_can_be_missed(beginning: str, good: dict[str, float], bad: dict[str, float]) -> None:
    assert row_of(CronFigures(jobs=10_000, **good), beginning).standing is Standing.MET  # type: ignore[arg-type]
    assert row_of(CronFigures(jobs=10_000, **bad), beginning).standing is Standing.MISSED  # type: ignore[arg-type]


def profile(memory: dict[str, float], warm: float = 9.0) -> ProfileFigures:
    return ProfileFigures(
        services=30, cold_seconds=[20.0], warm_seconds=[warm], stop_seconds=[3.0], disk_mib=100.0, memory_mib=memory
    )


def test_a_profile_that_starts_late_or_takes_too_much_has_missed_its_aim() -> None:
    good = {
        "week2": profile({"kafka": 3072.0}),
        "week7": profile({"kafka": 3072.0}, 99.0),
        "story": profile({"kafka": 6144.0}),
    }
    assert {row.standing for row in ProfilesFigures(profiles=good).rows()} == {None, Standing.MET}
    bad = {
        "week2": profile({"kafka": 3073.0}, 15.1),
        "week7": profile({"kafka": 3073.0}),
        "story": profile({"kafka": 6145.0}),
    }
    missed = [row.figure for row in ProfilesFigures(profiles=bad).rows() if row.standing is Standing.MISSED]
    assert missed == ["week2: warm start", "week2: memory", "week7: memory", "story: memory"]


def test_an_engine_that_does_not_tell_its_memory_leaves_the_aim_open() -> None:
    figures = ProfilesFigures(profiles={"week2": profile({}), "week7": profile({"kafka": 1.0})})
    assert [row.figure for row in figures.rows() if row.standing is Standing.UNKNOWN] == ["week2: memory"]
