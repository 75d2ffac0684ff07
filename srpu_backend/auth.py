"""Who may call: HTTP basic authentication, and the secret header of webhooks.

Label Studio sends basic credentials with /health, /setup, /predict and START_TRAINING, but not with
annotation webhooks; those can carry a header of ours, which `connect` sets on them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable

from srpu_backend.settings import Settings

SECRET_HEADER = "X-SRPU-Secret"  # noqa: S105  (the header's name, not its value)


class Authenticator:
    """Decides whether a request may pass; every comparison takes the same time whatever is wrong."""

    def __init__(self, settings: Settings, webhook_secret: Callable[[], str]) -> None:
        """`webhook_secret` is asked for only when a header has to be compared."""
        password = settings.basic_auth_pass.get_secret_value()
        self._expected = f"{settings.basic_auth_user}:{password}".encode()
        self.required = bool(settings.basic_auth_user or password)
        """False: everything is open."""
        self._webhook_secret = webhook_secret

    def allows(self, authorization: str | None) -> bool:
        """True when no password is configured, or `Authorization` carries it."""
        return not self.required or hmac.compare_digest(_basic_credentials(authorization), self._expected)

    def allows_webhook(self, authorization: str | None, secret: str | None) -> bool:
        """True for the password, or for the webhook secret."""
        if self.allows(authorization):
            return True
        return bool(secret) and hmac.compare_digest((secret or "").encode(), self._webhook_secret().encode())


def _basic_credentials(authorization: str | None) -> bytes:
    """`user:password` of a basic Authorization header; nothing for any other."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
