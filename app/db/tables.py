"""The record: what was seen, by which recipe it was judged, what was asked, answered and reviewed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import uuid_utils
from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


def new_id() -> str:
    """A UUIDv7: sorts by time."""
    return str(uuid_utils.uuid7())


def now() -> datetime:
    """The present, UTC."""
    return datetime.now(UTC)


def iso(value: datetime | None) -> str | None:
    """A time as every response writes it: ISO 8601 with `Z`."""
    return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Utc(TypeDecorator[datetime]):
    """A time with zone UTC, also on SQLite, which keeps none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; a time without a zone is taken as UTC."""
        if value is None:
            return None
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Back with its zone."""
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON().with_variant(JSONB(), "postgresql")
Id = String(36)
Sha = String(64)


def one_of(column: str, *values: str) -> CheckConstraint:
    """The values a text column may hold."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


def where_given(column: str) -> Index:
    """An index of the rows that have a value. Of all rows, SQLite would take it for `IS NULL`, which most of them are."""
    there = text(f"{column} IS NOT NULL")
    return Index(None, column, sqlite_where=there, postgresql_where=there)


class Base(DeclarativeBase):
    """Names every constraint, so that both databases migrate alike."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Utc, dict[str, Any]: Json, list[Any]: Json}  # noqa: RUF012 - SQLAlchemy's own form


class Row(Base):
    """What every table has: an id that sorts by time, and the time."""

    __abstract__ = True
    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Key(Row):
    """An access key; only its digest is kept."""

    __tablename__ = "keys"
    name: Mapped[str] = mapped_column(String(100))
    role: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(Sha, unique=True)
    revoked_at: Mapped[datetime | None]
    created_by: Mapped[str] = mapped_column(String(100))
    __table_args__ = (one_of("role", "viewer", "line", "operator", "engineer", "admin"),)


class Product(Row):
    """One kind of part."""

    __tablename__ = "products"
    name: Mapped[str] = mapped_column(String(64), unique=True)
    description: Mapped[str] = mapped_column(String(2000), default="")
    archived_at: Mapped[datetime | None]
    promoted: Mapped[int | None]
    """Number of the recipe that judges by default."""
    region: Mapped[dict[str, Any] | None]
    """Where the next enrolments look: digest of the mask, its size, the polygons it was given as."""


class Image(Row):
    """A picture given for enrolment or tests."""

    __tablename__ = "images"
    product_id: Mapped[str] = mapped_column(ForeignKey("products.id"))
    kind: Mapped[str] = mapped_column(String(8))
    label: Mapped[str | None] = mapped_column(String(100))
    filename: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(Sha)
    mask_sha256: Mapped[str | None] = mapped_column(Sha)
    format: Mapped[str] = mapped_column(String(8))
    width: Mapped[int]
    height: Mapped[int]
    bytes: Mapped[int]
    created_by: Mapped[str] = mapped_column(String(100))
    __table_args__ = (UniqueConstraint("product_id", "kind", "sha256"), one_of("kind", "normal", "defect", "test"))


class Recipe(Row):
    """A recipe folder on disk, numbered within its product; immutable."""

    __tablename__ = "recipes"
    product_id: Mapped[str] = mapped_column(ForeignKey("products.id"))
    number: Mapped[int]
    sha256: Mapped[str] = mapped_column(Sha, index=True)
    manifest: Mapped[dict[str, Any]]
    """recipe.json: expert, backbone, calibration card, digests."""
    review: Mapped[float | None]
    reject: Mapped[float | None]
    job_id: Mapped[str | None] = mapped_column(Id)
    created_by: Mapped[str] = mapped_column(String(100))
    __table_args__ = (UniqueConstraint("product_id", "number"),)


class Promotion(Row):
    """One change of the promoted recipe; never altered."""

    __tablename__ = "promotions"
    product_id: Mapped[str] = mapped_column(ForeignKey("products.id"), index=True)
    number: Mapped[int | None]
    replaced: Mapped[int | None]
    rollback: Mapped[bool] = mapped_column(default=False)
    created_by: Mapped[str] = mapped_column(String(100))


class Inspection(Row):
    """One picture judged once by one recipe; never altered."""

    __tablename__ = "inspections"
    product_id: Mapped[str] = mapped_column(ForeignKey("products.id"))
    recipe_id: Mapped[str] = mapped_column(ForeignKey("recipes.id"))
    recipe_number: Mapped[int]
    recipe_sha256: Mapped[str] = mapped_column(Sha)
    image_sha256: Mapped[str] = mapped_column(Sha, index=True)
    image_format: Mapped[str] = mapped_column(String(8))
    width: Mapped[int]
    height: Mapped[int]
    verdict: Mapped[str] = mapped_column(String(8))
    reasons: Mapped[list[Any]]
    raw_score: Mapped[float]
    score: Mapped[float | None]
    margin: Mapped[float | None]
    distance: Mapped[float]
    """|margin|, 0 where uncalibrated: the least sure come first in the queue."""
    threshold_review: Mapped[float | None]
    threshold_reject: Mapped[float | None]
    review_overridden: Mapped[bool] = mapped_column(default=False)
    reject_overridden: Mapped[bool] = mapped_column(default=False)
    findings: Mapped[list[Any]]
    map_sha256: Mapped[str] = mapped_column(Sha)
    map_width: Mapped[int]
    map_height: Mapped[int]
    map_stats: Mapped[dict[str, Any]]
    timings_ms: Mapped[dict[str, Any]]
    serial: Mapped[str | None] = mapped_column(String(200), index=True)
    lot: Mapped[str | None] = mapped_column(String(200), index=True)
    station: Mapped[str | None] = mapped_column(String(200), index=True)
    line: Mapped[str | None] = mapped_column(String(200))
    shift: Mapped[str | None] = mapped_column(String(200))
    captured_at: Mapped[datetime | None]
    measurement_id: Mapped[str | None] = mapped_column(String(200))
    custom: Mapped[dict[str, Any]]
    is_simulated: Mapped[bool] = mapped_column(default=False)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    """The re-inspection that made it."""
    source_id: Mapped[str | None] = mapped_column(ForeignKey("inspections.id"))
    """The inspection it judges again."""
    created_by: Mapped[str] = mapped_column(String(100))
    product: Mapped[Product] = relationship(lazy="joined", innerjoin=True)
    __table_args__ = (
        one_of("verdict", "pass", "review", "reject"),
        Index(None, "product_id", "id"),
        Index(None, "product_id", "recipe_number", "id"),
        Index(None, "verdict", "distance", "id"),
        Index(None, "created_at"),
        where_given("job_id"),
        where_given("source_id"),
    )


class Review(Row):
    """A person's later judgement, beside the verdict; never altered."""

    __tablename__ = "reviews"
    inspection_id: Mapped[str] = mapped_column(ForeignKey("inspections.id"))
    revision: Mapped[int]
    decision: Mapped[str] = mapped_column(String(8))
    defect_type: Mapped[str | None] = mapped_column(String(100))
    finding: Mapped[str | None] = mapped_column(String(16))
    comment: Mapped[str | None] = mapped_column(String(4000))
    reviewer: Mapped[str] = mapped_column(String(100))
    key_id: Mapped[str | None] = mapped_column(Id)
    __table_args__ = (UniqueConstraint("inspection_id", "revision"), one_of("decision", "pass", "reject"))


class Exemplar(Row):
    """A finding with the name a person gave it: in the pool that names the next ones, or in the locked one that tests them."""

    __tablename__ = "exemplars"
    product_id: Mapped[str] = mapped_column(ForeignKey("products.id"))
    inspection_id: Mapped[str] = mapped_column(ForeignKey("inspections.id"))
    image_sha256: Mapped[str] = mapped_column(Sha)
    """Of its picture: no picture may stand in both pools."""
    finding: Mapped[str] = mapped_column(String(16))
    label: Mapped[str] = mapped_column(String(40))
    pool: Mapped[str] = mapped_column(String(8))
    feature: Mapped[bytes | None] = mapped_column(LargeBinary)
    """float16, little-endian; `None`: made when it is first needed."""
    made_by: Mapped[str | None] = mapped_column(Sha)
    """Digest of the weights and the way that made the feature; where it is another than today's, the feature is made again."""
    created_by: Mapped[str] = mapped_column(String(100))
    __table_args__ = (
        UniqueConstraint("inspection_id", "finding"),
        one_of("pool", "exemplar", "test"),
        Index(None, "product_id", "id"),
    )


class Question(Row):
    """A question; opened before the model is asked, closed by its answer."""

    __tablename__ = "questions"
    inspection_id: Mapped[str] = mapped_column(ForeignKey("inspections.id"), index=True)
    conversation_id: Mapped[str] = mapped_column(Id, index=True)
    question: Mapped[str] = mapped_column(String(2000))
    language: Mapped[str] = mapped_column(String(16))
    engine: Mapped[str] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(12), default="open")
    error: Mapped[str | None] = mapped_column(String(200))
    asked_by: Mapped[str] = mapped_column(String(100))
    closed_at: Mapped[datetime | None]
    answer: Mapped[Answer | None] = relationship(lazy="joined", back_populates="question")
    __table_args__ = (one_of("state", "open", "done", "interrupted", "failed"),)


class Answer(Row):
    """What was delivered, what the model itself said, and what it rests on; never altered."""

    __tablename__ = "answers"
    question_id: Mapped[str] = mapped_column(ForeignKey("questions.id"), unique=True)
    answer: Mapped[str]
    own_words: Mapped[str]
    kind: Mapped[str] = mapped_column(String(16))
    evidence: Mapped[list[Any]]
    grounding: Mapped[str] = mapped_column(String(16))
    agrees_with_detector: Mapped[bool]
    model: Mapped[dict[str, Any]]
    prompt_sha256: Mapped[str] = mapped_column(Sha)
    latency_ms: Mapped[float]
    question: Mapped[Question] = relationship(back_populates="answer")
    __table_args__ = (one_of("grounding", "grounded", "mended", "replaced", "insufficient"),)


class Feedback(Row):
    """What a person thinks of an answer; never altered."""

    __tablename__ = "feedback"
    answer_id: Mapped[str] = mapped_column(ForeignKey("answers.id"), index=True)
    vote: Mapped[str] = mapped_column(String(4))
    edit: Mapped[str | None] = mapped_column(String(4000))
    created_by: Mapped[str] = mapped_column(String(100))
    __table_args__ = (one_of("vote", "up", "down"),)


class Job(Row):
    """Long work, claimed by a worker under a lease."""

    __tablename__ = "jobs"
    type: Mapped[str] = mapped_column(String(16))
    product_id: Mapped[str] = mapped_column(ForeignKey("products.id"))
    state: Mapped[str] = mapped_column(String(16), default="queued")
    stage: Mapped[str] = mapped_column(String(32), default="")
    stage_at: Mapped[datetime | None]
    """When its worker first spoke of the stage; `done` and `total` are the stage's."""
    params: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    created_by: Mapped[str] = mapped_column(String(100))
    product: Mapped[Product] = relationship(lazy="joined", innerjoin=True)
    __table_args__ = (
        one_of("type", "enroll", "reinspect"),
        one_of("state", "queued", "running", "cancelling", "cancelled", "failed", "done", "done_with_errors"),
        Index(None, "state", "id"),
    )


class JobItem(Base):
    """One picture of a job: where a killed worker's successor goes on."""

    __tablename__ = "job_items"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    inspection_id: Mapped[str] = mapped_column(ForeignKey("inspections.id"))
    new_inspection_id: Mapped[str | None] = mapped_column(ForeignKey("inspections.id"))
    error: Mapped[str | None] = mapped_column(String(100))


class Idempotency(Base):
    """The response that was given to a key's request; committed together with the rows it made."""

    __tablename__ = "idempotency"
    key_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    token: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Sha)
    status: Mapped[int]
    response: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
