"""The HTTP side: every endpoint in one process beside a sandbox issuer, and the process itself on real sockets."""
