import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from services.kit import failpoint
from services.kit.failpoint import Failpoint


@pytest.fixture(autouse=True)
def _names() -> Iterator[None]:
    failpoint.register("here", "there")
    yield
    for point in failpoint.armed():
        failpoint.disarm(point.name)


async def test_an_unarmed_failpoint_does_nothing() -> None:
    await failpoint.failpoint("here")
    assert failpoint.armed() == []


async def test_a_delay_happens_at_the_nth_pass_only(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    failpoint.arm(Failpoint("here", "delay", nth=2, seconds=0.5))
    for _ in range(3):
        await failpoint.failpoint("here")
    await failpoint.failpoint("there")
    assert slept == [0.5]
    assert failpoint.armed()[0].hits == 3


async def test_with_a_subject_only_passes_for_it_count(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    failpoint.arm(Failpoint("here", "delay", nth=2, seconds=0.5, subject="invoice"))
    for subject in ("report", "invoice-1", "", "report"):
        await failpoint.failpoint("here", subject)
    assert (failpoint.armed()[0].hits, slept) == (1, [])
    await failpoint.failpoint("here", "monthly-invoice")
    assert slept == [0.5]


@pytest.mark.parametrize(
    "text", ["nowhere=kill", "here=explode", "here=kill@0", "here=kill@x", "here=delay:61", "here", "here=delay:x"]
)
def test_a_wrong_arming_is_refused_with_the_part_that_is_wrong(text: str) -> None:
    with pytest.raises(ValueError, match="LAB_FAILPOINTS"):
        failpoint.arm_from_text(text)


def test_several_are_armed_from_one_line() -> None:
    failpoint.arm_from_text("here=kill@3, there=delay:0.5")
    assert {(p.name, p.action, p.nth, p.seconds) for p in failpoint.armed()} == {
        ("here", "kill", 3, 0.0),
        ("there", "delay", 1, 0.5),
    }


@pytest.mark.parametrize(("action", "number"), [("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)])
def test_kill_and_stop_are_real_signals_to_the_process(action: str, number: signal.Signals) -> None:
    code = (
        "import asyncio; from services.kit import failpoint as f; f.register('x');"
        f"f.arm_from_text('x={action}'); asyncio.run(f.failpoint('x')); print('went on')"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        ended_by = os.WSTOPSIG(status) if os.WIFSTOPPED(status) else os.WTERMSIG(status)
        assert ended_by == number
    finally:
        if action == "stop":
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
        child.returncode = 0
        assert child.stdout is not None
        assert child.stdout.read() == b""
        child.stdout.close()
