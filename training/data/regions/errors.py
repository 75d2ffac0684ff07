"""What is wrong with a region."""

from __future__ import annotations

from model_zoo.errors import SRPUError


class BadRegion(SRPUError):
    """A region whose value cannot be drawn; the message says why, without naming the region."""
