"""Keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import StringConstraints

from app.schemas.common import Body, Text, View

Role = Literal["viewer", "line", "operator", "engineer", "admin"]


class KeyIn(Body):
    """A key to make."""

    name: Annotated[Text, StringConstraints(min_length=1, max_length=100)]
    role: Role


class KeyView(View):
    """A key without its secret."""

    id: str
    name: str
    role: str
    created_at: datetime
    revoked_at: datetime | None
    created_by: str


class KeyMade(KeyView):
    """A new key: the only time it is shown."""

    key: str
