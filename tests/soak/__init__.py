"""The soak: real services on one database, an issuer that ends a login for a spent token, and faults of every kind.

`python -m tests.soak --help`. A login may be lost only where no client could have kept it; every other loss, every
token that nobody granted and every generation that goes back is found in the history afterwards (`history.check`).
"""
