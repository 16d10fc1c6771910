"""Payments, ledger and the real bank's settlement file, with the mistakes that it plants."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import asyncpg
import pytest

from infra.native.free_ports import free_ports
from services.payments import failpoints
from services.payments.portions import PORTION_LINES
from services.payments.reconcile import MalformedFile
from services.payments.reconciler import Reconciler
from tests.integration.payments.stack import BANK_KEY, Stack, client, until
from tests.midnight import far_from_midnight

pytestmark = pytest.mark.integration

MISTAKES = {"missing": 0.1, "extra": 0.1, "wrong_amount": 0.1, "duplicate": 0.1}
NAMES = {"missing": "missing_there", "extra": "missing_here", "wrong_amount": "amount", "duplicate": "duplicate"}


@asynccontextmanager
async def reconciling(stack: Stack, portion_lines: int = PORTION_LINES) -> AsyncIterator[Reconciler]:
    async with await asyncpg.create_pool(stack.app_url, min_size=1, max_size=2) as pool:
        yield Reconciler(pool, portion_lines)


async def settlement(stack: Stack, day: date) -> bytes:
    url = f"http://127.0.0.1:{stack.ports['bank']}/v1/settlements/{day}.csv"
    async with client() as session, session.get(url, headers={"Authorization": f"Bearer {BANK_KEY}"}) as answer:
        assert answer.status == 200
        return await answer.read()


async def paid(stack: Stack, count: int) -> None:
    """Captured payments, a refund for each third."""
    answers = await asyncio.gather(*(stack.pay(f"r{number}") for number in range(count)))
    refunds = [answer.json["id"] for answer in answers][::3]
    await asyncio.gather(
        *(
            stack.request("POST", f"/v1/payments/{each}/refunds", json={"amount": 400}, key=f"refund-{each}")
            for each in refunds
        )
    )


async def findings(stack: Stack) -> Counter[str]:
    rows = await stack.sql("SELECT kind, subject FROM reconciliation_findings WHERE cleared_at IS NULL")
    return Counter(row["kind"] for row in rows)


@pytest.mark.parametrize("portion_lines", [1, PORTION_LINES])
async def test_an_honest_file_gives_no_finding_and_planted_mistakes_are_all_found(
    stack: Stack, portion_lines: int
) -> None:
    await far_from_midnight()
    await stack.start("bank")
    await stack.start("api")
    await paid(stack, 60)
    day = datetime.now(UTC).date()
    async with reconciling(stack, portion_lines) as reconciler:
        honest = await settlement(stack, day)
        result = await reconciler.compare(day, honest, datetime.now(UTC))
        assert (result.new, result.lines, result.findings) == (True, 80, ())

        for seed in (1, 2, 3):
            await stack.behave("settlement_mistakes", **MISTAKES, seed=seed)
            wrong = await settlement(stack, day)
            planted = difference(honest, wrong)
            assert len(planted) >= 10  # 32 in the mean: whose lines they are is drawn from ids that differ each time
            result = await reconciler.compare(day, wrong, datetime.now(UTC))
            assert Counter((each.kind.value, each.subject, each.operation_kind) for each in result.findings) == planted
            assert (await findings(stack)).total() == planted.total()

        again = await reconciler.compare(day, wrong, datetime.now(UTC))
        assert (again.new, again.findings) == (False, ())
        assert len(await stack.sql("SELECT 1 FROM settlement_files")) == 4


def difference(honest: bytes, wrong: bytes) -> Counter[tuple[str, str, str]]:
    """What was planted, found by comparing the two files; knows nothing of the reconciler."""

    def read(content: bytes) -> list[tuple[str, str, str]]:
        rows = [line.split(",") for line in content.decode().splitlines()[1:]]
        return [(row[1], row[2], row[3]) for row in rows]

    before, after = read(honest), read(wrong)
    right = {(reference, kind): amount for reference, kind, amount in before}
    found: Counter[tuple[str, str, str]] = Counter()
    lines = Counter((reference, kind) for reference, kind, _ in after)
    for (reference, kind), amount in right.items():
        if lines[reference, kind] == 0:
            found["missing_there", reference, kind] += 1
        elif lines[reference, kind] == 2:
            found["duplicate", reference, kind] += 1
        elif (reference, kind, amount) not in after:
            found["amount", reference, kind] += 1
    for reference, kind in lines.keys() - right.keys():
        found["missing_here", reference, kind] += 1
    return found


async def test_a_later_version_of_the_days_file_clears_what_it_no_longer_shows(stack: Stack) -> None:
    await far_from_midnight()
    await stack.start("bank")
    await stack.start("api")
    await paid(stack, 6)
    day = datetime.now(UTC).date()
    async with reconciling(stack) as reconciler:
        honest = await settlement(stack, day)
        await reconciler.compare(day, honest[: honest.rindex(b"\r\n", 0, -2) + 2], datetime.now(UTC))
        assert await findings(stack) == {"missing_there": 1}
        assert (await reconciler.open_findings())["missing_there"] == 1
        await reconciler.compare(day, honest, datetime.now(UTC))
        assert await findings(stack) == {}
        with pytest.raises(MalformedFile):
            await reconciler.compare(day, b"\xff", datetime.now(UTC))


async def test_what_the_bank_leaves_out_is_found_although_its_file_stays_the_same(stack: Stack) -> None:
    await far_from_midnight()
    await stack.start("bank")
    await stack.start("api")
    await stack.behave("settlement_mistakes", missing=1)
    day = datetime.now(UTC).date()
    async with reconciling(stack) as reconciler:
        empty = await settlement(stack, day)
        assert (await reconciler.compare(day, empty, datetime.now(UTC))).findings == ()
        await paid(stack, 1)
        assert await settlement(stack, day) == empty
        await reconciler.compare(day, empty, datetime.now(UTC))
        assert await findings(stack) == {"missing_there": 2}
        assert not (await reconciler.compare(day, empty, datetime.now(UTC))).new


async def test_a_mistake_that_the_bank_takes_back_is_cleared_by_the_file_it_had_before(stack: Stack) -> None:
    await far_from_midnight()
    await stack.start("bank")
    await stack.start("api")
    await paid(stack, 3)
    day = datetime.now(UTC).date()
    async with reconciling(stack) as reconciler:
        honest = await settlement(stack, day)
        wrong = honest.replace(b",1000,", b",1001,")
        for content, expected in ((honest, {}), (wrong, {"amount": 3}), (honest, {}), (wrong, {"amount": 3})):
            assert (await reconciler.compare(day, content, datetime.now(UTC))).new
            assert await findings(stack) == expected


async def test_the_process_compares_todays_file_by_itself(stack: Stack) -> None:
    await stack.start("bank")
    await stack.start("api")
    await paid(stack, 10)
    await stack.behave("settlement_mistakes", missing=1, extra=0, wrong_amount=0, duplicate=0, late=0)
    process = await stack.start("reconciler")

    async def found() -> bool:
        return (await findings(stack)) == {"missing_there": 14}

    await until(found, what="findings")

    async def shown() -> bool:
        async with client() as session, session.get(f"{process.url}/metrics") as answer:
            return 'payments_reconciliation_findings{kind="missing_there"} 14.0' in await answer.text()

    await until(shown, what="the gauge")
    assert await asyncio.to_thread(process.terminate) == 0


@pytest.mark.slow
@pytest.mark.parametrize("point", failpoints.RECONCILER)
async def test_the_reconciler_killed_at_any_point_finds_the_same(stack: Stack, point: str) -> None:
    await stack.start("bank")
    await stack.start("api")
    await paid(stack, 3)
    await stack.behave("settlement_mistakes", missing=1, extra=0, wrong_amount=0, duplicate=0, late=0)
    (port,) = free_ports(1)
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.payments", "reconciler",
        env={**stack.environment(), "LAB_FAILPOINTS": f"{point}=kill@2", "HTTP_PORT": str(port)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert await asyncio.wait_for(run.wait(), 20) == -9
    await stack.start("reconciler")

    async def found() -> bool:
        return (await findings(stack)) == {"missing_there": 4}

    await until(found, what="findings")


async def test_a_file_from_disk_is_compared_once(stack: Stack, tmp_path: Path) -> None:
    await far_from_midnight()
    await stack.start("bank")
    await stack.start("api")
    await paid(stack, 3)
    await stack.behave("settlement_mistakes", wrong_amount=1)
    file = tmp_path / "settlement.csv"
    file.write_bytes(await settlement(stack, datetime.now(UTC).date()))

    async def code(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.payments", "reconciler", *arguments,
            env=stack.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output = (await process.communicate())[0].decode()
        return process.returncode or 0, output

    status, output = await code("--file", str(file), "--once")
    assert (status, output.splitlines()[0][10:]) == (
        1,
        ": 4 lines, 4 findings: missing_here 0, missing_there 0, amount 4, duplicate 0, late 0",
    )
    assert "compared before" in (await code("--file", str(file), "--once"))[1]
    assert (await code("--file", str(file)))[0] == 2
    file.write_text("nonsense")
    status, output = await code("--file", str(file), "--once")
    assert status == 2
    assert output.startswith("Not reconciled: The settlement file does not begin with the columns")
