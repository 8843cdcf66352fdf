"""The use cases: log in, hand out, refresh, import, log out. Loads, lets the domain decide, acts, saves."""
