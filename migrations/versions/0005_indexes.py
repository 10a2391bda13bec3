"""Indexes for a record of a million inspections.

Every list asks for `job_id IS NULL`: an index that holds those rows is taken for it by SQLite, which then sorts them all.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_inspections_job_id", "inspections")
    for column in ("job_id", "source_id"):
        there = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_inspections_{column}", "inspections", [column], sqlite_where=there, postgresql_where=there)
    op.create_index("ix_inspections_product_id_recipe_number_id", "inspections", ["product_id", "recipe_number", "id"])


def downgrade() -> None:
    op.drop_index("ix_inspections_product_id_recipe_number_id", "inspections")
    for column in ("job_id", "source_id"):
        op.drop_index(f"ix_inspections_{column}", "inspections")
    op.create_index("ix_inspections_job_id", "inspections", ["job_id"])
