"""Replays one seed and prints its history: `python -m tests.simulation SEED`."""

import argparse
import sys

from tests.simulation.plan import PROFILES
from tests.simulation.world import World


def main() -> int:
    """0 if all laws hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--profile", choices=PROFILES)
    arguments = parser.parse_args()
    course = World(arguments.seed, profile=arguments.profile).run()
    print(*course.events, course, sep="\n")
    return 1 if course.broken else 0


if __name__ == "__main__":
    sys.exit(main())
