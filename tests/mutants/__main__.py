"""The mutation score: `python -m tests.mutants`, or of some modules: `python -m tests.mutants guard vault`."""

import sys

from tests.mutants.score import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
