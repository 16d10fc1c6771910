"""A failure is named when it happens: the whole suite takes a quarter of an hour, and its tracebacks come at the end."""

from __future__ import annotations

import pytest


class Teller:
    """In the process that reports, whether it has workers or not."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(f"FAILED {report.nodeid} ({report.when}, {report.duration:.0f} s)")
