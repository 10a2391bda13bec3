"""kensor keys create | list | revoke."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.output import BY, Json, Refused, columns, record, show


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="Access keys and their roles.")
    group.command("create")(create)
    group.command("list")(listed)
    group.command("revoke")(revoke)
    app.add_typer(group, name="keys")


def create(
    name: Annotated[str, typer.Argument(help="Whose it is: a person or a machine.")],
    role: Annotated[str, typer.Option(help="viewer, line, operator, engineer or admin; each may do what those before it may.")],
    as_json: Json = False,
) -> None:
    """Make a key. It is shown this once; only its digest is kept."""
    from app.security import ROLES
    from app.services import keys

    if role not in ROLES:
        raise Refused(f"There is no role `{role}`; there are {', '.join(ROLES)}.", "unknown_role")
    with record() as ctx, ctx.database.write() as session:
        key, secret = keys.create(session, name, role, BY)
        made = {"id": key.id, "name": key.name, "role": key.role, "key": secret}
    show(made, as_json, [secret])


def listed(as_json: Json = False) -> None:
    """Every key, newest first, without its secret."""
    from app.services import keys

    rows: list[dict[str, object]] = []
    with record() as ctx, ctx.database.read() as session:
        after: str | None = None
        while True:
            found, after = keys.listed(session, after, 200)
            rows += [
                {
                    "id": k.id,
                    "name": k.name,
                    "role": k.role,
                    "created_at": k.created_at.isoformat(timespec="seconds"),
                    "revoked_at": k.revoked_at.isoformat(timespec="seconds") if k.revoked_at else None,
                }
                for k in found
            ]
            if after is None:
                break
    heading = ["id", "name", "role", "created", "revoked"]
    show(rows, as_json, list(columns([heading, *(list(row.values()) for row in rows)])))


def revoke(key_id: Annotated[str, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
    """End a key at once and for good."""
    from app.services import keys

    with record() as ctx, ctx.database.write() as session:
        name = keys.revoke(session, key_id).name
    show({"id": key_id, "revoked": True}, as_json, [f"The key of {name} is revoked."])
