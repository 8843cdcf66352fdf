"""Device logins: a code the person types, a poll that waits for them.

    pending --approve--> approved --poll--> delivered
       |----deny------> denied
       (any of them, past its end: expired)

Promises: an approval is handed out once; a decided login cannot be decided again.
Must not know HTTP, the clock or tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from .bounded import Bounded
from .errors import OAuthError
from .mint import new_id, new_user_code

if TYPE_CHECKING:
    from .knobs import User
    from .values import Terms


class DeviceState(StrEnum):
    """Where a device login stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    DELIVERED = "delivered"


class UnknownUserCodeError(LookupError):
    """No pending device login has that user code."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device login; `user` once approved."""

    device_auth_id: str
    user_code: str
    client_id: str
    until: float
    state: DeviceState = DeviceState.PENDING
    user: User | None = None


class Devices:
    """All device logins of one issuer."""

    def __init__(self) -> None:
        self._by_code: Bounded[Device] = Bounded()

    def start(self, client_id: str, terms: Terms) -> Device:
        """A new pending login."""
        until = terms.at + terms.knobs.device_lifetime
        device = Device(new_id("deviceauth_"), new_user_code(), client_id, until)
        self._by_code[device.user_code] = device
        return device

    def approve(self, user_code: str, user: User, at: float) -> Device:
        """The person says yes. Raises UnknownUserCodeError."""
        return self._decide(user_code, at, DeviceState.APPROVED, user)

    def deny(self, user_code: str, at: float) -> Device:
        """The person says no. Raises UnknownUserCodeError."""
        return self._decide(user_code, at, DeviceState.DENIED, None)

    def poll(self, device_auth_id: str, user_code: str, at: float) -> tuple[Device, User]:
        """Hand out an approval, once. Raises OAuthError for every other state."""
        device = self._by_code.get(user_code)
        # Both must match: the user code alone is what a bystander can read off the screen.
        if device is None or device.device_auth_id != device_auth_id:
            raise OAuthError("deviceauth_unknown")
        if at >= device.until:
            raise OAuthError("expired_token")
        if device.user is None:
            denied = device.state is DeviceState.DENIED
            raise OAuthError("access_denied" if denied else "deviceauth_authorization_pending")
        if device.state is DeviceState.DELIVERED:
            raise OAuthError("deviceauth_unknown", "This device login was already completed.")
        self._by_code[user_code] = replace(device, state=DeviceState.DELIVERED)
        return device, device.user

    def pending(self, at: float) -> list[Device]:
        """Those that wait for a person, oldest first."""
        waiting = [each for each in self._by_code.values() if each.state is DeviceState.PENDING]
        return [each for each in waiting if at < each.until]

    def _decide(self, typed: str, at: float, state: DeviceState, user: User | None) -> Device:
        device = self._by_code.get(typed.strip().upper())
        if device is None or device.state is not DeviceState.PENDING or at >= device.until:
            raise UnknownUserCodeError(typed)
        decided = replace(device, state=state, user=user)
        self._by_code[device.user_code] = decided
        return decided
