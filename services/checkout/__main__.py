"""`python -m services.checkout api`."""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Run the API. Exit 2 with the usage for anything else."""
    if arguments != ["api"]:
        sys.stderr.write("usage: python -m services.checkout api\n")
        return 2
    from services.checkout.app import create_app
    from services.checkout.settings import CheckoutSettings
    from services.kit.http import serve
    from services.kit.settings import ProcessSettings, load

    process, settings = load(ProcessSettings), load(CheckoutSettings)
    serve(create_app(process, settings), process, name="checkout-api")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
