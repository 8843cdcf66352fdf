"""Real reverse proxies in front of the service."""
