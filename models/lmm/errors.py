"""What can go wrong with a language model that is not ours."""

from __future__ import annotations

from typing import Any


class EngineError(Exception):
    """The model or its server did not do what was asked; `code` is stable, `details` are plain JSON values.

    again: it may go well on another try. retry_after: seconds until then, as the server said.
    """

    def __init__(
        self,
        message: str,
        code: str = "language_unavailable",
        *,
        again: bool = False,
        retry_after: int | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.code, self.again, self.retry_after, self.details = code, again, retry_after, details
