"""The wire without I/O: what to send to an issuer and what its answers mean. No network, no clock, no randomness."""
