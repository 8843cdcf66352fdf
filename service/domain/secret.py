"""A value that must not be seen. Promises that repr, str, format, copy and pickle never show it."""

import hmac
from typing import Final, NoReturn


class Secret:
    """A token, verifier or key. `reveal()` is the only way to the text: search for it to audit every use."""

    __slots__ = ("_value",)
    _MASK: Final = "Secret(**********)"

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for the wire or for encryption."""
        return self._value

    def __repr__(self) -> str:
        return self._MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self
