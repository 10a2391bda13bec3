"""Labelled findings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "exemplars",
        sa.Column("product_id", sa.String(length=36), nullable=False),
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("image_sha256", sa.String(length=64), nullable=False),
        sa.Column("finding", sa.String(length=16), nullable=False),
        sa.Column("label", sa.String(length=40), nullable=False),
        sa.Column("pool", sa.String(length=8), nullable=False),
        sa.Column("feature", sa.LargeBinary(), nullable=True),
        sa.Column("made_by", sa.String(length=64), nullable=True),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("pool IN ('exemplar', 'test')", name="ck_exemplars_pool"),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_exemplars_product_id"),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspections.id"], name="fk_exemplars_inspection_id"),
        sa.PrimaryKeyConstraint("id", name="pk_exemplars"),
        sa.UniqueConstraint("inspection_id", "finding", name="uq_exemplars_inspection_id_finding"),
    )
    op.create_index("ix_exemplars_product_id_id", "exemplars", ["product_id", "id"], unique=False)


def downgrade() -> None:
    op.drop_table("exemplars")
