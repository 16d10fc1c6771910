"""`make chaos`: list the scripts, do one, heal.

Exit codes: 0 done and healed, 1 a problem said in one sentence, 2 wrong usage, 3 healed but without proof that it acted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import aiohttp
import msgspec
from rich.console import Console
from rich.table import Table

from infra import projects
from infra.native.runtime import CHECKOUT
from infra.runtime import RuntimeProblem
from labs.chaos.arguments import duration, options_of
from labs.chaos.breaking import PROBLEM, Order, asked_to_end, break_it
from labs.chaos.context import ByHand
from labs.chaos.healing import heal_all
from labs.chaos.register import Entry, Register
from labs.chaos.scripts import EDGE, EDGE_OR_SERVICE, SCRIPTS, SERVICE, VOLUME, find
from labs.chaos.telling import JsonTeller, PlainTeller, Teller

OPTIONS = ("ms", "kbps", "percent", "offset")
HEAL = "heal"
EXAMPLE = {SERVICE: "payments-api", EDGE: "payments.bank", EDGE_OR_SERVICE: "payments.bank", VOLUME: "redis"}


def main(arguments: Sequence[str], *, root: Path = CHECKOUT, stream: TextIO | None = None) -> int:
    """Parse and do. Without `--do`: list."""
    chosen = _parser().parse_args(_joined(arguments))
    out = stream or sys.stdout
    teller: Teller = JsonTeller(out) if chosen.json else PlainTeller(out)
    try:
        return asyncio.run(_run(chosen, root, out, teller))
    except RuntimeProblem as problem:
        if chosen.json:
            teller.event("problem", str(problem))
        else:
            print(problem, file=sys.stderr)
        return PROBLEM


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--offset -90s` as `--offset=-90s`: argparse takes what begins with a dash for another option."""
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] in {"--offset", "--for"} and word.startswith("-"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


async def _run(chosen: argparse.Namespace, root: Path, out: TextIO, teller: Teller) -> int:
    register = Register(root, chosen.project)
    async with aiohttp.ClientSession(trust_env=False) as session:
        ctx = ByHand(projects.current(chosen.project, root), session, root)
        if not chosen.do:
            _list(ctx, register, out, as_json=chosen.json)
            return 0
        if chosen.do == HEAL:
            _refuse_options(chosen)
            return await heal_all(ctx, register, chosen.target, teller, known_only=chosen.known)
        order = _order(ctx, chosen)
        for entry in register.entries():
            if not entry.kept:
                teller.event("note", f"still broken: {entry.state()}")
        async with asked_to_end() as ended:
            return await break_it(ctx, order, register, teller, ended)


def _order(ctx: ByHand, chosen: argparse.Namespace) -> Order:
    """Raises RuntimeProblem for anything that is not meant so."""
    script = find(chosen.do)
    given = {name: value for name in OPTIONS if (value := getattr(chosen, name)) is not None}
    options = options_of(script.options, given, script.name)
    seconds = script.seconds if chosen.seconds is None else duration(chosen.seconds)
    return Order(script, script.target(ctx, chosen.target), options, seconds)


def _refuse_options(chosen: argparse.Namespace) -> None:
    if any(getattr(chosen, name) is not None for name in (*OPTIONS, "seconds")):
        raise RuntimeProblem("do=heal takes target= and nothing else.")


def _list(ctx: ByHand, register: Register, out: TextIO, *, as_json: bool) -> None:
    entries = register.entries()
    if as_json:
        out.write(msgspec.json.encode(listing(ctx, entries)).decode() + "\n")
        return
    console = Console(file=out, width=None if out.isatty() else 140)
    console.print(_table())
    for title, names in (
        ("services", ctx.services("running", "paused", "exited", "stopped")),
        ("edges", ctx.edges_in_use()),
        ("volumes", find("fill-disk").targets(ctx)),
    ):
        console.print(f"{title}: {', '.join(names) or 'none; see make up'}", markup=False, soft_wrap=True)
    for entry in entries:
        console.print(f"broken now: {entry.state()}", markup=False, style="yellow", soft_wrap=True)


def _table() -> Table:
    table = Table(title="make chaos do=NAME target=TARGET for=20s      it heals by itself, or on Ctrl-C, or by do=heal")
    for column in ("do", "target", "what it does", "what it teaches"):
        table.add_column(column)
    for script in SCRIPTS:
        numbers = "".join(
            f" ({one.name}={_default(one.default, signed=one.signed_duration)})" for one in script.options
        )
        table.add_row(script.name, script.target_kind, script.does + numbers, script.teaches)
    table.add_row(HEAL, "any, or none for all", "restores it now", "is every part as it was before? Ask the probes")
    return table


def _default(value: float, *, signed: bool) -> str:
    return f"{value / 3600:g}h" if signed else f"{value:g}"


def listing(ctx: ByHand, entries: Sequence[Entry]) -> list[dict[str, object]]:
    """For the console: each script with whom it may hit now and what of it is at work."""
    return [
        {
            "name": script.name,
            "target_kind": script.target_kind,
            "does": script.does,
            "teaches": script.teaches,
            "runtimes": script.runtimes,
            "targets": list(script.targets(ctx)),
            "seconds": script.seconds,
            "options": [
                {"name": one.name, "unit": one.unit, "default": one.default, "least": one.least, "most": one.most, "allowed": one.allowed()}
                for one in script.options
            ],
            "active": [
                {"target": one.target, "since": one.begun_at, "heals_in": max(0.0, one.heals_at - time.time()), "kept": one.kept}
                for one in entries if one.do == script.name
            ],
        }
        for script in SCRIPTS
    ]  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra chaos", description="Break a running stack by hand, for a while."
    )
    parser.add_argument("--do", default="", help="a script; without it: list them")
    parser.add_argument("--target", default="", help="service or edge")
    parser.add_argument("--for", dest="seconds", help="how long, 1s to 1h, like 20s or 2m")
    for name in OPTIONS:
        parser.add_argument(f"--{name}", help=f"of the scripts that take {name}=")
    parser.add_argument("--project", default="dev")
    parser.add_argument("--known", action="store_true", help="heal only what these commands broke")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser
