"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)
Json = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "idempotency",
        sa.Column("key_id", sa.String(length=36), nullable=False),
        sa.Column("token", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("response", Json, nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("key_id", "token", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"], unique=False)
    op.create_table(
        "keys",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("revoked_at", Time, nullable=True),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.CheckConstraint("role IN ('viewer', 'line', 'operator', 'engineer', 'admin')", name="ck_keys_role"),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("sha256", name="uq_keys_sha256"),
    )
    op.create_table(
        "products",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=2000), nullable=False),
        sa.Column("archived_at", Time, nullable=True),
        sa.Column("promoted", sa.Integer(), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_products"),
        sa.UniqueConstraint("name", name="uq_products_name"),
    )
    op.create_table(
        "images",
        sa.Column("product_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("label", sa.String(length=100), nullable=True),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("mask_sha256", sa.String(length=64), nullable=True),
        sa.Column("format", sa.String(length=8), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.CheckConstraint("kind IN ('normal', 'defect', 'test')", name="ck_images_kind"),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_images_product_id"),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.UniqueConstraint("product_id", "kind", "sha256", name="uq_images_product_id_kind_sha256"),
    )
    op.create_table(
        "jobs",
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("product_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("stage", sa.String(length=32), nullable=False),
        sa.Column("params", Json, nullable=False),
        sa.Column("result", Json, nullable=True),
        sa.Column("error", Json, nullable=True),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", Time, nullable=True),
        sa.Column("started_at", Time, nullable=True),
        sa.Column("finished_at", Time, nullable=True),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'cancelling', 'cancelled', 'failed', 'done', 'done_with_errors')",
            name="ck_jobs_state",
        ),
        sa.CheckConstraint("type IN ('enroll', 'reinspect')", name="ck_jobs_type"),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_jobs_product_id"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_state_id", "jobs", ["state", "id"], unique=False)
    op.create_table(
        "promotions",
        sa.Column("product_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("replaced", sa.Integer(), nullable=True),
        sa.Column("rollback", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_promotions_product_id"),
        sa.PrimaryKeyConstraint("id", name="pk_promotions"),
    )
    op.create_index("ix_promotions_product_id", "promotions", ["product_id"], unique=False)
    op.create_table(
        "recipes",
        sa.Column("product_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("manifest", Json, nullable=False),
        sa.Column("review", sa.Double(), nullable=True),
        sa.Column("reject", sa.Double(), nullable=True),
        sa.Column("job_id", sa.String(length=36), nullable=True),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_recipes_product_id"),
        sa.PrimaryKeyConstraint("id", name="pk_recipes"),
        sa.UniqueConstraint("product_id", "number", name="uq_recipes_product_id_number"),
    )
    op.create_index("ix_recipes_sha256", "recipes", ["sha256"], unique=False)
    op.create_table(
        "inspections",
        sa.Column("product_id", sa.String(length=36), nullable=False),
        sa.Column("recipe_id", sa.String(length=36), nullable=False),
        sa.Column("recipe_number", sa.Integer(), nullable=False),
        sa.Column("recipe_sha256", sa.String(length=64), nullable=False),
        sa.Column("image_sha256", sa.String(length=64), nullable=False),
        sa.Column("image_format", sa.String(length=8), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("reasons", Json, nullable=False),
        sa.Column("raw_score", sa.Double(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("margin", sa.Double(), nullable=True),
        sa.Column("distance", sa.Double(), nullable=False),
        sa.Column("threshold_review", sa.Double(), nullable=True),
        sa.Column("threshold_reject", sa.Double(), nullable=True),
        sa.Column("review_overridden", sa.Boolean(), nullable=False),
        sa.Column("reject_overridden", sa.Boolean(), nullable=False),
        sa.Column("findings", Json, nullable=False),
        sa.Column("map_sha256", sa.String(length=64), nullable=False),
        sa.Column("map_width", sa.Integer(), nullable=False),
        sa.Column("map_height", sa.Integer(), nullable=False),
        sa.Column("map_stats", Json, nullable=False),
        sa.Column("timings_ms", Json, nullable=False),
        sa.Column("serial", sa.String(length=200), nullable=True),
        sa.Column("lot", sa.String(length=200), nullable=True),
        sa.Column("station", sa.String(length=200), nullable=True),
        sa.Column("line", sa.String(length=200), nullable=True),
        sa.Column("shift", sa.String(length=200), nullable=True),
        sa.Column("captured_at", Time, nullable=True),
        sa.Column("measurement_id", sa.String(length=200), nullable=True),
        sa.Column("custom", Json, nullable=False),
        sa.Column("is_simulated", sa.Boolean(), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=True),
        sa.Column("source_id", sa.String(length=36), nullable=True),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.CheckConstraint("verdict IN ('pass', 'review', 'reject')", name="ck_inspections_verdict"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_inspections_job_id"),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_inspections_product_id"),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipes.id"], name="fk_inspections_recipe_id"),
        sa.ForeignKeyConstraint(["source_id"], ["inspections.id"], name="fk_inspections_source_id"),
        sa.PrimaryKeyConstraint("id", name="pk_inspections"),
    )
    op.create_index("ix_inspections_created_at", "inspections", ["created_at"], unique=False)
    op.create_index("ix_inspections_image_sha256", "inspections", ["image_sha256"], unique=False)
    op.create_index("ix_inspections_job_id", "inspections", ["job_id"], unique=False)
    op.create_index("ix_inspections_lot", "inspections", ["lot"], unique=False)
    op.create_index("ix_inspections_product_id_id", "inspections", ["product_id", "id"], unique=False)
    op.create_index("ix_inspections_serial", "inspections", ["serial"], unique=False)
    op.create_index("ix_inspections_station", "inspections", ["station"], unique=False)
    op.create_index("ix_inspections_verdict_distance_id", "inspections", ["verdict", "distance", "id"], unique=False)
    op.create_table(
        "job_items",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("new_inspection_id", sa.String(length=36), nullable=True),
        sa.Column("error", sa.String(length=100), nullable=True),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspections.id"], name="fk_job_items_inspection_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_items_job_id"),
        sa.ForeignKeyConstraint(["new_inspection_id"], ["inspections.id"], name="fk_job_items_new_inspection_id"),
        sa.PrimaryKeyConstraint("job_id", "position", name="pk_job_items"),
    )
    op.create_table(
        "questions",
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("conversation_id", sa.String(length=36), nullable=False),
        sa.Column("question", sa.String(length=2000), nullable=False),
        sa.Column("language", sa.String(length=16), nullable=False),
        sa.Column("engine", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("error", sa.String(length=200), nullable=True),
        sa.Column("asked_by", sa.String(length=100), nullable=False),
        sa.Column("closed_at", Time, nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.CheckConstraint("state IN ('open', 'done', 'interrupted', 'failed')", name="ck_questions_state"),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspections.id"], name="fk_questions_inspection_id"),
        sa.PrimaryKeyConstraint("id", name="pk_questions"),
    )
    op.create_index("ix_questions_conversation_id", "questions", ["conversation_id"], unique=False)
    op.create_index("ix_questions_inspection_id", "questions", ["inspection_id"], unique=False)
    op.create_table(
        "reviews",
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("decision", sa.String(length=8), nullable=False),
        sa.Column("defect_type", sa.String(length=100), nullable=True),
        sa.Column("finding", sa.String(length=16), nullable=True),
        sa.Column("comment", sa.String(length=4000), nullable=True),
        sa.Column("reviewer", sa.String(length=100), nullable=False),
        sa.Column("key_id", sa.String(length=36), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.CheckConstraint("decision IN ('pass', 'reject')", name="ck_reviews_decision"),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspections.id"], name="fk_reviews_inspection_id"),
        sa.PrimaryKeyConstraint("id", name="pk_reviews"),
        sa.UniqueConstraint("inspection_id", "revision", name="uq_reviews_inspection_id_revision"),
    )
    op.create_table(
        "answers",
        sa.Column("question_id", sa.String(length=36), nullable=False),
        sa.Column("answer", sa.String(), nullable=False),
        sa.Column("own_words", sa.String(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("evidence", Json, nullable=False),
        sa.Column("grounding", sa.String(length=16), nullable=False),
        sa.Column("agrees_with_detector", sa.Boolean(), nullable=False),
        sa.Column("model", Json, nullable=False),
        sa.Column("prompt_sha256", sa.String(length=64), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.CheckConstraint("grounding IN ('grounded', 'mended', 'replaced', 'insufficient')", name="ck_answers_grounding"),
        sa.ForeignKeyConstraint(["question_id"], ["questions.id"], name="fk_answers_question_id"),
        sa.PrimaryKeyConstraint("id", name="pk_answers"),
        sa.UniqueConstraint("question_id", name="uq_answers_question_id"),
    )
    op.create_table(
        "feedback",
        sa.Column("answer_id", sa.String(length=36), nullable=False),
        sa.Column("vote", sa.String(length=4), nullable=False),
        sa.Column("edit", sa.String(length=4000), nullable=True),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.CheckConstraint("vote IN ('up', 'down')", name="ck_feedback_vote"),
        sa.ForeignKeyConstraint(["answer_id"], ["answers.id"], name="fk_feedback_answer_id"),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
    )
    op.create_index("ix_feedback_answer_id", "feedback", ["answer_id"], unique=False)


def downgrade() -> None:
    op.drop_table("feedback")
    op.drop_table("answers")
    op.drop_table("reviews")
    op.drop_table("questions")
    op.drop_table("job_items")
    op.drop_table("inspections")
    op.drop_table("recipes")
    op.drop_table("promotions")
    op.drop_table("jobs")
    op.drop_table("images")
    op.drop_table("products")
    op.drop_table("keys")
    op.drop_table("idempotency")
