from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from labs.console import course
from labs.console.course import NoSuchPage, example_of, link, locate, read, slug

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "labs" / "week02").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# The lab\n")
    (tmp_path / ".env").write_text("SECRET=1")
    (tmp_path / "docs" / "a.md").write_text("# A\n")
    return tmp_path


def page(root: Path, text: str) -> str:
    file = root / "labs" / "week02" / "README.md"
    file.write_text(text)
    return read(root, locate(root, "labs/week02/README.md")).html


def test_html_in_a_page_stays_text(root: Path) -> None:
    html = page(root, "# T\n\n<script>alert(1)</script> and <img src=x onerror=y>\n")
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html


def test_a_script_link_is_no_link(root: Path) -> None:
    assert "<a " not in page(root, "[click](javascript:alert(1))")


def test_links_between_pages_stay_within_the_console(root: Path) -> None:
    html = page(root, "[a](../../docs/a.md#part) [p](day2.py) [x](https://example.org/) [h](#here)")
    assert 'href="/course/docs/a.md#part"' in html
    assert 'href="/course/labs/week02/day2.py"' in html
    assert 'href="https://example.org/" rel="noreferrer noopener" target="_blank"' in html
    assert 'href="#here"' in html


def test_a_link_out_of_the_repository_leads_nowhere() -> None:
    assert link("../../../etc/passwd", PurePosixPath("labs/week02")) == "#"


def test_each_command_has_a_button_and_its_prediction_is_only_an_example(root: Path) -> None:
    html = page(root, '```\nmake lab week=2 day=2 predict="about 5 %"\nmake clean\n```\n')
    assert html.count("<button") == 1
    assert 'data-command="make lab week=2 day=2"' in html
    assert 'data-example="about 5 %"' in html


def test_a_command_within_a_sentence_has_a_button_too(root: Path) -> None:
    assert 'data-command="make lab week=2 day=1 variant=naive"' in page(
        root, "Try `make lab week=2 day=1 variant=naive`."
    )
    assert "<button" not in page(root, "Never `make lab week=2; rm -rf x`, nor `make bench`.")


def test_what_a_page_says_about_a_command_cannot_break_out_of_the_button(root: Path) -> None:
    html = page(root, "```\nmake lab week=2 day=2 predict='\"><script>x</script>'\n```\n")
    assert "<script>" not in html


def test_headings_have_the_anchors_that_links_use(root: Path) -> None:
    html = page(root, "## Day 2: Idempotency\n\n## The idea\n\n## The idea\n")
    assert 'id="day-2-idempotency"' in html
    assert 'id="the-idea"' in html
    assert 'id="the-idea-1"' in html
    assert slug("What `make` does, and why?") == "what-make-does-and-why"


def test_a_source_is_shown_line_by_line(root: Path) -> None:
    (root / "labs" / "week02" / "day2.py").write_text("a = '<b>'\nb = 2\n")
    shown = read(root, locate(root, "labs/week02/day2.py"))
    assert shown.lines == ("a = '<b>'", "b = 2")


def test_a_folder_is_its_readme(root: Path) -> None:
    page(root, "# Week\n")
    assert locate(root, "labs/week02").name == "README.md"


@pytest.mark.parametrize(
    "path",
    [
        "", "/", ".env", "docs/../.env", "../etc/passwd", "docs/%2e%2e/.env", "/etc/passwd", "docs", "docs/none.md", "labs/.hidden/x.md",
        ".lab/runtime", "docs/a.md/b.md", "secrets.key", "docs/a.md\x00", "a/" * 20, "requirements.lock",
    ],
)  # fmt: skip
def test_nothing_but_pages_and_sources_is_shown(root: Path, path: str) -> None:
    with pytest.raises(NoSuchPage):
        locate(root, path)


def test_a_link_in_the_file_system_does_not_lead_out(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "x.md"
    outside.write_text("secret")
    (root / "docs" / "out.md").symlink_to(outside)
    with pytest.raises(NoSuchPage):
        locate(root, "docs/out.md")


def test_a_huge_file_is_not_a_page(root: Path) -> None:
    (root / "docs" / "huge.md").write_text("x" * (course.LARGEST_PAGE + 1))
    with pytest.raises(NoSuchPage):
        locate(root, "docs/huge.md")


def test_an_example_is_taken_out_of_its_command() -> None:
    assert example_of('make lab week=2 predict="5 s" seed=1') == ("make lab week=2 seed=1", "5 s")
    assert example_of("make lab week=2") == ("make lab week=2", "")


def test_every_link_of_the_weeks_pages_leads_to_something_that_is_shown() -> None:
    broken = []
    for title, address in course.weeks(REPOSITORY):
        shown = read(REPOSITORY, locate(REPOSITORY, address.removeprefix("/course/")))
        assert title == shown.title
        anchors = {heading.anchor for heading in shown.headings}
        for part in shown.html.split('href="')[1:]:
            target, _, fragment = part.partition('"')[0].partition("#")
            if not target and fragment not in anchors:
                broken.append(fragment)
            if target.startswith("/course/"):
                try:
                    locate(REPOSITORY, target.removeprefix("/course/"))
                except NoSuchPage:
                    broken.append(target)
    assert broken == []


def test_each_day_of_the_course_is_found_on_its_page() -> None:
    assert course.anchor_of_day(REPOSITORY / "labs" / "week02" / "README.md", 2) == "day-2-idempotency"
