"""Everything said to Label Studio. Nothing else speaks to its API."""

from srpu_backend.studio.client import Studio, UploadedFile
from srpu_backend.studio.errors import StudioError
from srpu_backend.studio.tokens import TokenKeeper

__all__ = ["Studio", "StudioError", "TokenKeeper", "UploadedFile"]
