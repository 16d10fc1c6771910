from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from labs.console.commands import parse
from labs.console.jobs import CHAOS_AT_ONCE, KEPT_LINES, LONGEST_LINE, Busy, Event, Job, Jobs, NoSuchJob

PROGRAM = """
import json, signal, sys, time
if sys.argv[1] == "waits":
    try:
        print("begins", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("healed")
        sys.exit(130)
print("begins", flush=True)
match sys.argv[1]:
    case "many":
        for i in range(5000): print(f"line {i}")
    case "long":
        print("x" * 200_000 + "end")
    case "events":
        print('\\x1e{"phase": "inject", "elapsed": 1}', flush=True)
        print('\\x1enot json')
        print('{"event": "receipt", "text": "17 requests"}')
    case "garbage":
        sys.stdout.buffer.write(b"\\xff\\x00\\x1b[31mred\\n")
    case "fails":
        sys.exit(3)
"""
LAB, CHAOS = parse("make lab week=2"), parse("make chaos do=kill")


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[Jobs]:
    (tmp_path / "program.py").write_text(PROGRAM)
    made = Jobs(tmp_path, {})
    yield made
    await made.close()


def does(jobs: Jobs, what: str) -> None:
    argv = ("env", "--default-signal=INT", sys.executable, "program.py", what)
    jobs._programs = {"labs": argv, "infra": argv}


async def events(jobs: Jobs, job: Job, after: int = 0) -> list[Event]:
    async with asyncio.timeout(30):
        return [event async for event in jobs.follow(job, after)]


async def line(jobs: Jobs, job: Job) -> None:
    async with asyncio.timeout(30):
        async for event in jobs.follow(job, 0):
            if event.kind == "line":
                return


async def test_output_is_followed_to_the_end_with_the_exit_code(jobs: Jobs) -> None:
    does(jobs, "fails")
    told = await events(jobs, await jobs.start(LAB))
    assert [event.kind for event in told] == ["line", "end"]
    assert told[0].data == {"text": "begins"}
    assert told[-1].data["exit_code"] == 3


async def test_a_lost_connection_goes_on_where_it_was(jobs: Jobs) -> None:
    does(jobs, "many")
    job = await jobs.start(LAB)
    first = await events(jobs, job)
    later = await events(jobs, job, after=4990)
    lines = [event for event in later if event.kind == "line"]
    assert [event.data["text"] for event in lines] == [f"line {i}" for i in range(4989, 5000)]
    assert lines[-1].number == 5001
    assert [event.data["text"] for event in first if event.kind == "line"][-1] == "line 4999"


async def test_no_line_is_lost_to_a_slow_reader(jobs: Jobs) -> None:
    does(jobs, "waits")
    job = await jobs.start(LAB)
    await line(jobs, job)
    read = []
    async with asyncio.timeout(30):
        async for event in jobs.follow(job, 0):
            if event.kind == "line":
                read.append(event.data["text"])
                if len(read) < 40:
                    job.write(f"while {len(read)}")
                    job.tell()
                elif len(read) == 40:
                    jobs.cancel(job.id)
    assert [one for one in read if str(one).startswith("while")] == [f"while {i}" for i in range(1, 40)]
    assert "healed" in read


async def test_old_lines_are_dropped_and_long_ones_cut(jobs: Jobs) -> None:
    does(jobs, "many")
    job = await jobs.start(LAB)
    await events(jobs, job)
    assert len(job.lines) == KEPT_LINES
    does(jobs, "long")
    job = await jobs.start(LAB)
    await events(jobs, job)
    assert max(len(one) for one in job.lines) <= LONGEST_LINE + 4


async def test_bytes_that_are_no_text_do_not_stop_the_output(jobs: Jobs) -> None:
    does(jobs, "garbage")
    job = await jobs.start(LAB)
    assert (await events(jobs, job))[-1].data["exit_code"] == 0


async def test_progress_is_told_apart_from_text(jobs: Jobs) -> None:
    does(jobs, "events")
    job = await jobs.start(CHAOS)
    told = await events(jobs, job)
    assert not any("\x1e" in str(event.data.get("text")) for event in told)
    assert job.facts[0] == {"event": "receipt", "text": "17 requests"}


async def test_one_lab_at_a_time(jobs: Jobs) -> None:
    does(jobs, "waits")
    job = await jobs.start(LAB)
    with pytest.raises(Busy, match="409"):
        await jobs.start(parse("make up"))
    await line(jobs, job)
    jobs.cancel(job.id)
    await events(jobs, job)
    assert (await jobs.start(LAB)).running


async def test_a_few_chaos_scripts_run_beside_a_lab(jobs: Jobs) -> None:
    does(jobs, "waits")
    for command in (LAB, *[CHAOS] * CHAOS_AT_ONCE):
        await line(jobs, await jobs.start(command))
    with pytest.raises(Busy):
        await jobs.start(CHAOS)


async def test_cancelling_is_an_interrupt_that_lets_it_heal(jobs: Jobs) -> None:
    does(jobs, "waits")
    job = await jobs.start(LAB)
    await line(jobs, job)
    jobs.cancel(job.id)
    told = await events(jobs, job)
    assert told[-2].data == {"text": "healed"}
    assert (job.exit_code, job.cancelled) == (130, True)
    assert jobs.cancel(job.id).exit_code == 130


async def test_the_console_interrupts_what_runs_before_it_ends(jobs: Jobs) -> None:
    does(jobs, "waits")
    job = await jobs.start(LAB)
    await line(jobs, job)
    await jobs.close()
    assert job.exit_code == 130


async def test_a_program_that_is_not_there_is_an_ended_job_that_says_so(jobs: Jobs) -> None:
    jobs._programs = {"labs": ("/nowhere/python",)}
    job = await jobs.start(LAB)
    assert (await events(jobs, job))[-1].data["exit_code"] == 127
    assert "cannot be started" in job.lines[0]


def test_an_unknown_job_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(NoSuchJob):
        Jobs(tmp_path, {}).get("7")
