"""The console of a scratch checkout: `python -m tests.e2e.console.served ROOT PORT PROMETHEUS JAEGER`. Its labs are the tiny one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from labs.console.app import create_app, process_settings
from labs.console.settings import MODULES, Settings
from services.kit.http import serve


def main(root: Path, port: int, prometheus: str, jaeger: str) -> None:
    os.chdir(root)
    programs: dict[str, tuple[str, ...]] = {module: (sys.executable, "-m", module) for module in MODULES}
    programs["labs"] = (sys.executable, str(Path(__file__).parent / "tiny_lab.py"))
    settings = Settings(
        root=root,
        port=port,
        programs=programs,
        lab_modules=("tests.e2e.console.tiny_lab",),
        endpoints={"prometheus": prometheus, "jaeger": jaeger, "alertmanager": prometheus},
    )
    serve(create_app(settings), process_settings(settings), name="console")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
