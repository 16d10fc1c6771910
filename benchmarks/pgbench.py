"""pgbench as the limit: the same statements and commits of a whole flow, with no service around them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

PARAMETER = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """A service's own SQL, and for each of its parameters an SQL expression in which `:n` is this flow's number."""

    sql: str
    parameters: Sequence[str]

    def text(self) -> str:
        """With the expressions put in, on one line, as a pgbench script wants it. Comments are not supported."""
        filled = PARAMETER.sub(lambda match: f"({self.parameters[int(match[1]) - 1]})", self.sql)
        # A prepared statement's parameter needs a type; pgbench itself gives none.
        return " ".join(filled.replace(":n", "(:n)::bigint").split()) + ";"


def binary() -> str:
    """Where pgbench is: on the path, or where Debian keeps it. Raises FileNotFoundError."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), reverse=True)
    found = shutil.which("pgbench") or (str(debian[0]) if debian else None)
    if found is None:
        raise FileNotFoundError("pgbench is not installed; Debian has it in the package postgresql")
    return found


def flows_per_second(url: str, flow: Sequence[Statement], *, clients: int, seconds: int) -> float:
    """Whole flows a second, each statement a commit of its own, prepared. Raises RuntimeError if a statement fails."""
    parts = urlsplit(url)
    script = "\\set n random(1, 4000000000000000000)\n" + "\n".join(statement.text() for statement in flow) + "\n"
    with tempfile.NamedTemporaryFile("w", suffix=".pgbench") as file:
        file.write(script)
        file.flush()
        command = [binary(), "-n", "-M", "prepared", "-f", file.name, "-c", str(clients), "-j", "2", "-T", str(seconds)]
        command += ["-h", str(parts.hostname), "-p", str(parts.port), "-U", str(parts.username), parts.path.lstrip("/")]
        environment = os.environ | {"PGPASSWORD": parts.password or ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    match = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or match is None or "aborted" in done.stderr:
        raise RuntimeError(f"pgbench failed: {done.stderr.strip()[-800:]}")
    return float(match[1])
