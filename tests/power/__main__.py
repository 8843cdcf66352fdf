"""Play seeds: `python -m tests.power 17 18`."""

import sys

from tests.power.lives import play

if __name__ == "__main__":
    for seed in map(int, sys.argv[1:]):
        print(f"seed {seed}: nothing lost; the power failed at {', '.join(play(seed).struck)}")
