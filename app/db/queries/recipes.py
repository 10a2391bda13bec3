"""Recipes and their promotions."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer

from app.db.tables import Product, Promotion, Recipe


class Choice(NamedTuple):
    """What an inspection needs to know of a recipe."""

    product_id: str
    archived: bool
    promoted: int | None
    recipe_id: str | None
    number: int | None
    sha256: str | None
    review: float | None
    reject: float | None


def choice(session: Session, product: str, number: int | None) -> Choice | None:
    """The product and its recipe `number`, or its promoted one, in one look; `None`: no such product."""
    wanted = Product.promoted if number is None else number
    of_recipe = (Recipe.id, Recipe.number, Recipe.sha256, Recipe.review, Recipe.reject)
    statement = (
        select(Product.id, Product.archived_at, Product.promoted, *of_recipe)
        .outerjoin(Recipe, (Recipe.product_id == Product.id) & (Recipe.number == wanted))
        .where(Product.name == product)
    )
    row = session.execute(statement).first()
    return None if row is None else Choice(row[0], row[1] is not None, *row[2:])


def get(session: Session, product_id: str, number: int) -> Recipe | None:
    """One recipe."""
    return session.scalar(select(Recipe).where(Recipe.product_id == product_id, Recipe.number == number))


def by_id(session: Session, recipe_id: str) -> Recipe | None:
    """One recipe."""
    return session.get(Recipe, recipe_id)


def listed(session: Session, product_id: str, after: int | None, limit: int) -> list[Recipe]:
    """A product's recipes, newest first, one more than `limit` where there are more."""
    statement = select(Recipe).where(Recipe.product_id == product_id)
    if after is not None:
        statement = statement.where(Recipe.number < after)
    return list(session.scalars(statement.order_by(Recipe.number.desc()).limit(limit + 1)))


def next_number(session: Session, product_id: str) -> int:
    """The number of the next recipe; hold the product's row meanwhile."""
    return (session.scalar(select(func.max(Recipe.number)).where(Recipe.product_id == product_id)) or 0) + 1


def promoted(session: Session, limit: int) -> list[str]:
    """Digests of promoted recipes, newest first."""
    statement = (
        select(Recipe)
        .options(defer(Recipe.manifest))
        .join(Product, (Product.id == Recipe.product_id) & (Product.promoted == Recipe.number))
        .where(Product.archived_at.is_(None))
        .order_by(Recipe.id.desc())
        .limit(limit)
    )
    return [recipe.sha256 for recipe in session.scalars(statement)]


def last_promotion(session: Session, product_id: str, number: int | None) -> Promotion | None:
    """How the recipe that is promoted now came to be."""
    statement = select(Promotion).where(
        Promotion.product_id == product_id, Promotion.number == number, Promotion.rollback.is_(False)
    )
    return session.scalar(statement.order_by(Promotion.id.desc()).limit(1))
