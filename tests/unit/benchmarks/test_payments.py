from __future__ import annotations

import re

from benchmarks.payments import flow


def test_the_payment_flow_without_a_service_gives_each_statement_all_that_it_asks_for() -> None:
    """The benchmark borrows the services' own SQL, which gets a parameter now and then."""
    for statement in flow():
        wanted = max(int(number) for number in re.findall(r"\$(\d+)", statement.sql))
        assert len(statement.parameters) == wanted, statement.sql[:60]
        assert "$" not in re.sub(r"\$\$.*?\$\$", "", statement.text())
