from __future__ import annotations

import msgspec
import pytest

from benchmarks.document import BEGIN, END, anchor, document, headlines, inserted
from tests.contract.test_pages import anchors
from tests.unit.benchmarks.results import MACHINE, paid, record, search_record, searched


def test_a_part_has_its_command_its_commit_its_machine_and_its_limit() -> None:
    page = document([record()])
    assert "`make bench system=payments`: 2026-03-04 05:06 UTC, commit cbe86ae, native, 4 min. Postgres 15.18." in page
    assert "0.1 processes wanted a core, and a durable write of 8 KiB took 0.40 ms" in page
    assert "| processor | Two Cores Inside, 2 cores |" in page
    assert "**The limit.** pgbench runs the whole flow" in page
    assert (
        "| 400/s (390 to 410) | 1,000/s (900 to 1,100) pgbench, the whole flow | 0.40 | ≥ 0.3 of the limit | met |"
        in page
    )
    assert "1,000 payments/s need 3.0 cores" in page


def test_a_missed_aim_has_a_paragraph_and_stands_in_the_overview() -> None:
    page = document([record(paid(p99_ms_at_half=130.0))])
    assert "| 130.0 ms |  |  | < 100 ms | missed |" in page
    assert "**Missed: p99 at half of saturation.** Three commits follow each other" in page
    overview = page.partition("## The machine")[0]
    assert "| p99 at half of saturation |" in overview
    assert "**Missed" not in document([record()])


def test_what_a_run_cannot_tell_is_unknown_with_its_reason() -> None:
    page = document([search_record()])
    assert "unknown: asked of 1,000,000 documents" in page
    assert "**Missed" not in page


def test_a_part_of_an_older_commit_says_so_and_names_the_newest() -> None:
    old, new = record(commit="1111111"), search_record(commit="2222222", at="2026-03-05T00:00:00Z")
    page = document([old, new])
    stale = "**Not of the same commit as the newest part of this page**, search, 50,000 documents (commit 2222222)."
    assert page.count(stale) == 1
    assert stale in page.partition("## search")[0]
    same = document([record(commit="2222222-dirty"), new])
    assert "Not of the same commit" not in same
    assert "commit 2222222 with local changes" in same


def test_a_commit_that_is_not_known_is_said() -> None:
    assert "commit not known" in document([record(commit=None)])


def test_two_machines_are_told_apart() -> None:
    other = msgspec.structs.replace(MACHINE, cores=64)
    page = document([record(), search_record(machine=other)])
    assert "## Machine 2" in page
    assert "native, machine 1, 4 min" in page
    assert "native, machine 2, 4 min" in page


def test_stand_ins_are_named() -> None:
    assert "Stand-ins for official images: postgres:17.6." in document(
        [record(runtime="docker", stand_ins=["postgres:17.6"])]
    )


def test_links_of_the_overview_and_of_the_readme_lead_to_their_headings() -> None:
    runs = [record(), record(runtime="docker"), search_record(1_000_000)]
    page = document(runs)
    assert {anchor(one) for one in runs} <= anchors(page)
    assert "[search, 1,000,000 documents](BENCHMARKS.md#search-1000000-documents)" in headlines(runs)


def test_the_readme_gets_headlines_only() -> None:
    text = headlines([record(), search_record()])
    assert text.count("| [") == 2
    assert "relay" not in text
    assert "Measured 2026-03-04 on 2 cores (Two Cores Inside), 8 GiB, Debian" in text


def test_the_readme_says_what_the_courses_load_takes_by_the_largest_catalogue() -> None:
    text = headlines([record(), search_record(50_000), search_record(1_000_000)])
    assert "- 1,000 payments/s need 3.0 cores" in text
    assert text.count("10,000,000 documents at 1,000 queries/s") == 1
    assert "= 1.2 cores of engine" in text


def test_nothing_measured_is_said_on_both_pages() -> None:
    assert "Nothing has been measured yet: `make bench`." in document([])
    assert headlines([]) == "Nothing has been measured yet: `make bench`."


def test_figures_of_another_version_make_no_page() -> None:
    with pytest.raises(ValueError, match="ratios"):
        document([record(figures=msgspec.Raw(b'{"ratios": 1}'))])


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    figures = searched(memory_mib={"a|b": 1.0})
    assert "a\\|b 1 MiB" in document([record(figures, system="search", docs=50_000)])


def test_only_what_is_between_the_markers_is_replaced() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert inserted(page, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert inserted(inserted(page, "new"), "new") == inserted(page, "new")


@pytest.mark.parametrize("page", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="once each and in this order"):
        inserted(page, "new")
