"""`python -m benchmarks --system payments`. Exit codes: 0 done, 1 a problem said in one sentence, 2 wrong usage."""

from __future__ import annotations

import argparse
import sys

from benchmarks import payments
from infra.runtime import RuntimeProblem

SYSTEMS = {"payments": payments.main}


def main() -> int:
    """Run one system's benchmark, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--system", choices=sorted(SYSTEMS), help="default: all")
    parser.add_argument("--rounds", type=int, default=3, help="alternations of limit and service")
    parser.add_argument("--seconds", type=int, default=10, help="length of one measurement")
    options = parser.parse_args()
    chosen = [options.system] if options.system else sorted(SYSTEMS)
    try:
        return max(SYSTEMS[name](rounds=options.rounds, seconds=options.seconds) for name in chosen)
    except (RuntimeProblem, RuntimeError, FileNotFoundError) as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
