"""What can go wrong with a weight, each with the way out in its message."""

from __future__ import annotations

from typing import Any


class CatalogError(Exception):
    """A weight cannot be had; `message` says why and the way out, `details` carries the figures."""

    code = "weights_error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class UnknownWeight(CatalogError):
    """No weight or backbone has that name."""

    code = "unknown_weight"


class WeightsMissing(CatalogError):
    """The weight was never pulled onto this machine."""

    code = "weights_missing"


class DigestMismatch(CatalogError):
    """A file is not the one that is pinned."""

    code = "weights_digest_mismatch"


class PullFailed(CatalogError):
    """The download or the conversion did not end well; nothing was left behind."""

    code = "weights_pull_failed"


class DeviceUnavailable(CatalogError):
    """The accelerator that the settings name is not there, or has no memory left."""

    code = "device_unavailable"
