"""The issuer adapter against real sockets, and against everything that can go wrong on them."""
