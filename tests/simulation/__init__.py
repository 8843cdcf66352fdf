"""The refresh core on one seeded scheduler: real code, virtual time, a world that fails as the seed says.

`python -m tests.simulation SEED` replays a seed and prints all that happened.
"""
