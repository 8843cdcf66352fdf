"""What the tests share: a clock one can turn, and the whole service in one process beside a sandbox issuer."""

from tests.kit.clock import Clock
from tests.kit.gate import Gate
from tests.kit.house import House, house, settings_in

__all__ = ["Clock", "Gate", "House", "house", "settings_in"]
