"""Every alert fires for what it is about and stays silent otherwise, decided by promtool from series that are given."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.documents import read

ROOT = Path(__file__).resolve().parents[3]
RULES = sorted((ROOT / "infra" / "prometheus" / "rules").glob("*.yml"))
PROMTOOL = shutil.which("promtool") or "promtool"

Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """`fires` and `quiet` are series in promtool's notation, a sample each `every`; asked at `at`."""

    alert: str
    fires: Series
    quiet: Series
    at: str = "2m"
    every: str = "5s"
    labels: str = ""


def alike(*names: str, values: str) -> Series:
    return dict.fromkeys(names, values)


def slow_search(within: float) -> Series:
    """So many of a hundred thousand searches each 5 s take at most half a second."""
    labels = 'job="search-api",route="/v1/search"'
    name = "http_server_request_duration_seconds_bucket"
    return {
        f'{name}{{{labels},le="0.5"}}': f"0+{within * 100_000:.0f}x60",
        f'{name}{{{labels},le="1"}}': "0+100000x60",
        f'{name}{{{labels},le="+Inf"}}': "0+100000x60",
    }


CASES = (
    Case("ProcessDown", {'up{process="payments-api"}': "1 0x60"}, {'up{process="payments-api"}': "1x60"}),
    Case(
        "BackgroundTaskFailed",
        {'process_task_failures_total{task="relay"}': "0x5 1x60"},
        {'process_task_failures_total{task="relay"}': "0x60"},
    ),
    Case(
        "CatalogConnectorNotRunning",
        {"catalog_cdc_connector_running": "0x60"},
        {"catalog_cdc_connector_running": "1x60"},
    ),
    Case("CatalogSlotLost", {"catalog_cdc_slots_lost_total": "0x5 1x60"}, {"catalog_cdc_slots_lost_total": "0x60"}),
    Case(
        "CatalogSlotLagging",
        {"catalog_cdc_slot_lag_bytes": "300000000x60"},
        {"catalog_cdc_slot_lag_bytes": "200000000x60"},
    ),
    Case("CatalogSalesLagging", {"catalog_sales_lag_records": "1500x60"}, {"catalog_sales_lag_records": "900x60"}),
    Case(
        "CatalogOversold",
        {'catalog_sales_total{outcome="oversold"}': "0x5 1x60"},
        {'catalog_sales_total{outcome="oversold"}': "0x60", 'catalog_sales_total{outcome="sold"}': "0+1x60"},
    ),
    Case(
        "PaymentsUndecided", {"payments_unknown_oldest_seconds": "31x60"}, {"payments_unknown_oldest_seconds": "29x60"}
    ),
    Case(
        "PaymentsOutboxStuck", {"payments_outbox_oldest_seconds": "11x60"}, {"payments_outbox_oldest_seconds": "9x60"}
    ),
    Case(
        "PaymentsNoRelay",
        alike('payments_relay_active{process="a"}', 'payments_relay_active{process="b"}', values="0x60"),
        {'payments_relay_active{process="a"}': "0x60", 'payments_relay_active{process="b"}': "1x60"},
    ),
    Case(
        "PaymentsBankBreakerOpen",
        {'payments_bank_breaker_state{shard="3"}': "2x60", 'payments_bank_breaker_state{shard="4"}': "0x60"},
        {'payments_bank_breaker_state{shard="3"}': "1x60"},
        labels='shard="3"',
    ),
    Case(
        "PaymentsDisagreeWithTheBank",
        {'payments_reconciliation_findings{kind="amount"}': "1x60"},
        {'payments_reconciliation_findings{kind="amount"}': "0x60"},
    ),
    Case("CheckoutBreakerOpen", {"checkout_breaker_state": "2x60"}, {"checkout_breaker_state": "0x60"}),
    Case(
        "WebhooksBacklogGrowing",
        {"webhooks_backlog_deliveries": "20000+50x60"},
        {"webhooks_backlog_deliveries": "20000-50x60"},
    ),
    Case(
        "WebhooksSourceLagging", {"webhooks_source_lag_records": "1500x60"}, {"webhooks_source_lag_records": "900x60"}
    ),
    Case(
        "WebhooksGivenUp",
        {'webhooks_dead_total{reason="gone"}': "0x5 2x60"},
        {'webhooks_dead_total{reason="gone"}': "2x60"},
    ),
    Case(
        "CronNoLeader",
        alike('cron_leader{process="1"}', 'cron_leader{process="2"}', values="0x60"),
        {'cron_leader{process="1"}': "0x60", 'cron_leader{process="2"}': "1x60"},
    ),
    Case(
        "CronTwoLeaders",
        alike('cron_leader{process="1"}', 'cron_leader{process="2"}', values="1x60"),
        {'cron_leader{process="1"}': "0x60", 'cron_leader{process="2"}': "1x60"},
    ),
    Case("CronRunsLate", {"cron_runs_waiting_oldest_seconds": "31x60"}, {"cron_runs_waiting_oldest_seconds": "5x60"}),
    Case(
        "SearchIndexStale",
        {"search_freshness_oldest_unseen_seconds": "31x60"},
        {"search_freshness_oldest_unseen_seconds": "5x60"},
    ),
    Case(
        "SearchIndexerLagging",
        {'search_indexer_lag_records{feed="products"}': "20000+50x60"},
        {'search_indexer_lag_records{feed="products"}': "20000-50x60"},
    ),
    Case(
        "SearchDeadLetters",
        {'search_indexer_parked_total{reason="refused"}': "0x5 2x60"},
        {'search_indexer_parked_total{reason="refused"}': "2x60"},
        labels='reason="refused"',
    ),
    Case(
        "SearchShedding",
        {'search_requests_shed_total{reason="engine"}': "0+20x60"},
        {'search_requests_shed_total{reason="rate"}': "0+20x60"},
    ),
    Case(
        "SearchSlow",
        slow_search(0.9),
        slow_search(0.999),
    ),
    Case(
        "SearchEngineRed",
        {'elasticsearch_cluster_health_status{color="red"}': "1x60"},
        {'elasticsearch_cluster_health_status{color="yellow"}': "1x60"},
    ),
    Case("SearchEngineDown", {"elasticsearch_cluster_health_up": "0x60"}, {"elasticsearch_cluster_health_up": "1x60"}),
    Case(
        "SearchEngineHeapFull",
        {
            'elasticsearch_jvm_memory_used_bytes{area="heap",name="a"}': "95x60",
            'elasticsearch_jvm_memory_max_bytes{area="heap",name="a"}': "100x60",
        },
        {
            'elasticsearch_jvm_memory_used_bytes{area="heap",name="a"}': "85x60",
            'elasticsearch_jvm_memory_max_bytes{area="heap",name="a"}': "100x60",
        },
        labels='name="a"',
    ),
    Case(
        "SearchEngineRejects",
        {'elasticsearch_thread_pool_rejected_count{type="write"}': "0+5x60"},
        {'elasticsearch_thread_pool_rejected_count{type="write"}': "500x60"},
        labels='type="write"',
    ),
    Case(
        "SearchDiskFilling",
        {
            'elasticsearch_filesystem_data_available_bytes{name="a",mount="/"}': "10x60",
            'elasticsearch_filesystem_data_size_bytes{name="a",mount="/"}': "100x60",
        },
        {
            'elasticsearch_filesystem_data_available_bytes{name="a",mount="/"}': "20x60",
            'elasticsearch_filesystem_data_size_bytes{name="a",mount="/"}': "100x60",
        },
        labels='name="a"',
    ),
    Case("PostgresDown", {"pg_up": "0x60"}, {"pg_up": "1x60"}),
    Case(
        "PostgresConnectionsExhausted",
        {'pg_stat_activity_count{datname="payments"}': "170x60", "pg_settings_max_connections": "200x60"},
        {'pg_stat_activity_count{datname="payments"}': "120x60", "pg_settings_max_connections": "200x60"},
    ),
    Case("RedisDown", {"redis_up": "0x60"}, {"redis_up": "1x60"}),
    Case(
        "RedisMemoryFull",
        {"redis_memory_used_bytes": "95x60", "redis_memory_max_bytes": "100x60"},
        {"redis_memory_used_bytes": "95x60", "redis_memory_max_bytes": "0x60"},
    ),
    Case(
        "KafkaUnreachable",
        {"kafka_brokers": "0x60"},
        {
            "kafka_brokers": "1x60",
            'up{job="kafka-exporter"}': "1x60",
            'kafka_topic_partitions{job="kafka-exporter",topic="a"}': "6x60",
        },
    ),
    Case(
        "ConsumerLagging",
        alike(
            'kafka_consumergroup_lag{consumergroup="g",topic="t",partition="0"}',
            'kafka_consumergroup_lag{consumergroup="g",topic="t",partition="1"}',
            values="600x60",
        ),
        {'kafka_consumergroup_lag{consumergroup="g",topic="t",partition="0"}': "600x60"},
        labels='consumergroup="g"',
    ),
)


def answers(job: str, route: str, **each: float) -> Series:
    """Requests by status (`s200`), so many more each 5 s, all faster than 2.5 s."""
    found = {}
    for status, more in each.items():
        labels = f'job="{job}",route="{route}",status="{status[1:]}"'
        found[f"http_server_request_duration_seconds_count{{{labels}}}"] = f"0+{more}x200"
        found[f'http_server_request_duration_seconds_bucket{{{labels},le="2.5"}}'] = f"0+{more}x200"
    return found


def slow(name: str, limit: str, labels: str = "") -> Series:
    """Ten of a hundred take longer than `limit`."""
    return {f"{name}_count{{{labels}}}": "0+100x200", f'{name}_bucket{{{labels},le="{limit}"}}': "0+90x200"}


HTTP = "http_server_request_duration_seconds"
OBJECTIVES: dict[tuple[str, str], tuple[Series, float]] = {
    ("payments", "availability"): (answers("payments-api", "/v1/payments/{payment_id}/void", s402=90, s503=10), 0.1),
    ("payments", "latency"): (slow(HTTP, "2.5", 'job="payments-api",route="/v1/payments",status="201"'), 0.1),
    ("checkout", "availability"): (answers("checkout-api", "/v1/checkouts", s201=75, s504=25), 0.25),
    ("checkout", "latency"): (slow(HTTP, "2.5", 'job="checkout-api",route="/v1/checkouts",status="201"'), 0.1),
    ("webhooks", "availability"): (answers("webhooks-api", "/v1/messages", s429=50, s500=50), 0.5),
    ("webhooks", "first_attempt"): (slow("webhooks_first_attempt_delay_seconds", "5.0", 'process="a"'), 0.1),
    ("cron", "lateness"): (slow("cron_lateness_seconds", "2.0", 'process="a"'), 0.1),
}
"""A share of bad events as it is seen, by service and objective."""

WINDOWS = {"1h": ("5m", 14.4), "6h": ("30m", 6.0), "1d": ("2h", 3.0), "3d": ("6h", 1.0)}
"""The short window beside each long one, and how often both must exceed what is allowed."""

GROUPS = {group["name"]: group for path in RULES for group in read(path)["groups"]}
ALERTS = {rule["alert"]: rule for group in GROUPS.values() for rule in group["rules"] if "alert" in rule}


def write(folder: Path, groups: set[str], series: Series, question: str, value: float, case: Case) -> Path:
    """A test file for promtool, in JSON, which is YAML and is written much faster."""
    folder.mkdir()
    rules, file = folder / "rules.yml", folder / "test.yml"
    chosen = [{**GROUPS[name], "interval": case.every} for name in GROUPS if name in groups]
    rules.write_text(json.dumps({"groups": chosen}))
    expected = {"expr": question, "eval_time": case.at, "exp_samples": [{"labels": "{}", "value": value}]}
    given = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": case.every, "input_series": given, "promql_expr_test": [expected]}
    document = {"rule_files": [str(rules)], "evaluation_interval": case.every, "tests": [test]}
    file.write_text(json.dumps(document))
    return file


def run(files: Sequence[Path]) -> list[str]:
    """promtool's complaint about each file, or nothing if its question has that answer. One process for all of them."""
    argv = [PROMTOOL, "test", "rules", *map(str, files)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    parts = re.split(r"^Unit Testing:\s+(\S+)$", done.stdout, flags=re.MULTILINE)
    said = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert said.keys() == set(map(str, files)), done.stdout + done.stderr
    return ["" if said[str(file)].strip() == "SUCCESS" else said[str(file)] + done.stderr for file in files]


def ask(folder: Path, groups: set[str], series: Series, question: str, value: float, case: Case) -> str:
    """promtool's complaint, or nothing if the question has that answer."""
    (complaint,) = run([write(folder / "asked", groups, series, question, value, case)])
    return complaint


def about(folder: Path, case: Case, *, fires: bool) -> Path:
    """A test file: is the alert firing?"""
    home = {name for name, group in GROUPS.items() if any(rule.get("alert") == case.alert for rule in group["rules"])}
    which = ", ".join(filter(None, (f'alertname="{case.alert}", alertstate="firing"', case.labels)))
    question = f"count(ALERTS{{{which}}}) or vector(0)"
    return write(folder, home | {"lag"}, case.fires if fires else case.quiet, question, int(fires), case)


def burning(window: str) -> Case:
    """Both windows above the limit; and the long one alone, as it is for hours after the trouble has gone."""
    short, times = WINDOWS[window]
    labels = 'service="cron",slo="lateness"'
    ratios = {
        f"slo:error_ratio:rate{name}{{{labels}}}": "0x60" for pair in WINDOWS.items() for name in (pair[0], pair[1][0])
    }
    long_ratio, short_ratio = (f"slo:error_ratio:rate{name}{{{labels}}}" for name in (window, short))
    quiet = {f"slo:objective{{{labels}}}": "0.99x60", **ratios, long_ratio: f"{times * 0.011:g}x60"}
    fires = quiet | {short_ratio: f"{times * 0.011:g}x60"}
    return Case("ErrorBudgetBurning", fires, quiet, labels=f'{labels}, window="{window}"')


EVERY = (*CASES, *(burning(window) for window in WINDOWS))


def named(case: Case) -> str:
    return re.sub(r"\W+", "-", f"{case.alert} {case.labels}").strip("-")


def aliases(text: str) -> list[str]:
    """Prometheus reads a query's own YAML node, so for an alias it takes the anchor's name for a metric."""
    return [str(event.anchor) for event in yaml.parse(text) if isinstance(event, yaml.AliasEvent)]


def test_no_query_is_a_yaml_alias() -> None:
    assert [alias for path in RULES for alias in aliases(path.read_text("utf-8"))] == []
    assert aliases("a: &name up == 0\nb: *name\n") == ["name"]


def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run([PROMTOOL, "check", "rules", *RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], str]:
    """Of every case, firing and silent."""
    folder = tmp_path_factory.mktemp("alerts")
    asked = [(case, fires) for case in EVERY for fires in (True, False)]
    files = [about(folder / str(number), case, fires=fires) for number, (case, fires) in enumerate(asked)]
    return {(named(case), fires): said for (case, fires), said in zip(asked, run(files), strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("case", EVERY, ids=named)
def test_an_alert_fires_for_what_it_is_about(complaints: dict[tuple[str, bool], str], case: Case) -> None:
    assert complaints[named(case), True] == ""


@pytest.mark.slow
@pytest.mark.parametrize("case", EVERY, ids=named)
def test_an_alert_is_silent_otherwise(complaints: dict[tuple[str, bool], str], case: Case) -> None:
    assert complaints[named(case), False] == ""


def test_a_rule_that_does_not_fire_is_seen_beside_one_that_does(tmp_path: Path) -> None:
    dead = Case("RedisDown", {"redis_up": "0x60"}, {})
    alive = Case("RedisDown", {"redis_up": "1x60"}, {})
    files = [about(tmp_path / str(number), case, fires=True) for number, case in enumerate((dead, alive, dead))]
    before, seen, after = run(files)
    assert "got" in seen
    assert (before, after) == ("", "")


@pytest.fixture(scope="module")
def misjudged(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """promtool's complaint about each objective's share of bad events."""
    folder, files = tmp_path_factory.mktemp("objectives"), []
    for (service, slo), (series, share) in OBJECTIVES.items():
        question = f'sum(round(slo:error_ratio:rate5m{{service="{service}", slo="{slo}"}}, 0.001))'
        case = Case("", {}, {}, at="10m")
        files.append(write(folder / f"{service}-{slo}", {"slo events"}, series, question, share, case))
    return dict(zip(OBJECTIVES, run(files), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("which", OBJECTIVES, ids="-".join)
def test_an_objective_counts_its_bad_events(misjudged: dict[tuple[str, str], str], which: tuple[str, str]) -> None:
    assert misjudged[which] == ""


def test_a_service_that_nobody_calls_burns_nothing(tmp_path: Path) -> None:
    question = "count(slo:error_ratio:rate5m == 0)"
    assert ask(tmp_path, {"slo events"}, {}, question, len(OBJECTIVES), Case("", {}, {})) == ""


def test_a_longer_window_weighs_events_and_not_minutes(tmp_path: Path) -> None:
    """A quiet ten minutes in which all fails, and busy ten in which nothing does."""
    labels = 'service="cron",slo="lateness"'
    series = {f"slo:events:rate5m{{{labels}}}": "1x39 99x39", f"slo:bad_events:rate5m{{{labels}}}": "1x39 0x39"}
    question = "sum(round(slo:error_ratio:rate30m, 0.001))"
    case = Case("", {}, {}, at="1185s", every="15s")
    assert ask(tmp_path, {"slo windows"}, series, question, 0.01, case) == ""


def test_every_alert_and_every_objective_has_a_case() -> None:
    assert {case.alert for case in EVERY} == set(ALERTS)
    assert {(service, slo) for service, slo, _ in stated()} == set(OBJECTIVES)
    burns = [rule["labels"]["window"] for rule in GROUPS["slo burn"]["rules"]]
    assert sorted(burns) == sorted(WINDOWS)


def stated() -> list[tuple[str, str, float]]:
    """Service, objective, share of good events."""
    return [
        (rule["labels"]["service"], rule["labels"]["slo"], float(re.sub(r"[^\d.]", "", rule["expr"])))
        for rule in GROUPS["slo events"]["rules"]
        if rule["record"] == "slo:objective"
    ]


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def dangling(url: str, services: set[str]) -> list[str]:
    """What a runbook link leads to and is not there, for each service that it may name."""
    found = []
    for service in services if "$labels.service" in url else {""}:
        page, _, anchor = re.sub(r"\{\{.*?\}\}", service, url).partition("#")
        if not (ROOT / page).is_file() or anchor not in anchors(ROOT / page):
            found.append(f"{page}#{anchor}")
    return found


def test_every_runbook_link_leads_to_a_paragraph() -> None:
    services = {service for service, _, _ in stated()}
    for alert, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"page", "ticket"}, alert
        assert rule["annotations"]["summary"], alert
        assert dangling(rule["annotations"]["runbook_url"], services) == [], alert


def test_no_annotation_names_a_label_that_the_rule_itself_adds() -> None:
    """In annotations such a label is empty: $labels are those of the expression."""
    rules = [rule for group in GROUPS.values() for rule in group["rules"] if "alert" in rule]
    for rule in rules:
        named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        assert named.isdisjoint(rule["labels"]), rule["alert"]


def test_a_runbook_link_to_nowhere_is_seen() -> None:
    assert dangling("docs/runbooks/payments.md#nosuchalert", set()) == ["docs/runbooks/payments.md#nosuchalert"]
    assert dangling("docs/runbooks/{{ $labels.service }}.md#x", {"nobody"}) == ["docs/runbooks/nobody.md#x"]


@pytest.mark.parametrize("service", ["payments", "checkout", "webhooks", "cron"])
def test_every_objective_is_stated_in_the_readme_of_its_service(service: str) -> None:
    readme = (ROOT / "services" / service / "README.md").read_text("utf-8")
    objectives = {slo: share for owner, slo, share in stated() if owner == service}
    assert objectives
    for slo, objective in objectives.items():
        assert re.search(rf"`{slo}`[^|\n]*\b{objective * 100:g} %", readme), f"{slo} {objective * 100:g} %"
