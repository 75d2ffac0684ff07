"""The secret that Label Studio's annotation webhooks carry: they send no credentials of their own."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from model_zoo.errors import SRPUError
from model_zoo.files import locked, write_atomically

if TYPE_CHECKING:
    from srpu_backend.settings import Settings


class SecretUnavailable(SRPUError):
    """The webhook secret can be neither read nor written."""


def webhook_secret(settings: Settings) -> str:
    """What `X-SRPU-Secret` must be: SRPU_WEBHOOK_SECRET, else the one in MODEL_DIR, generated once (0600).

    Raises `SecretUnavailable` when MODEL_DIR cannot be read or written.
    """
    given = settings.webhook_secret.get_secret_value()
    if given:
        return given
    path = settings.model_dir / "webhook-secret"
    try:
        settings.model_dir.mkdir(parents=True, exist_ok=True)
        with locked(settings.model_dir / ".webhook-secret.lock"):
            known = path.read_text(encoding="ascii").strip() if path.exists() else ""
            if not known:
                known = secrets.token_urlsafe(32)
                write_atomically(path, f"{known}\n".encode(), mode=0o600)
            return known
    except (OSError, UnicodeDecodeError) as error:
        raise SecretUnavailable(
            f"The webhook secret in {path} can be neither read nor written ({error}): make MODEL_DIR "
            "writable, or set SRPU_WEBHOOK_SECRET."
        ) from None
