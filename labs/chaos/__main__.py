"""`python -m labs.chaos`, which is what `python -m infra chaos` becomes."""

import sys

from labs.chaos.command import main

sys.exit(main(sys.argv[1:]))
