"""A chat in OpenAI's form, read as one question about one picture: the last user turn about the last picture shown."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid5

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app import engines
from app.context import Context
from app.db.queries import products as product_queries
from app.errors import Invalid, NotFound
from app.schemas.fields import InspectFields
from app.schemas.openai import ChatIn, ImagePart, Message, Model, Models, TextPart, Usage
from app.schemas.questions import QuestionIn
from app.security import Principal
from app.services import idempotency, inspections
from app.services.idempotency import Once

MODEL = re.compile(r"kensor:([a-z0-9][a-z0-9_-]{0,63})")
INSPECTION = re.compile(r"inspection:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
DATA = re.compile(r"data:[\w/+.-]*(?:;[\w=.-]+)*;base64,", re.ASCII | re.IGNORECASE)
AS_IT_COMES = InspectFields()
MODELS = 1000


class Chat(NamedTuple):
    """What a chat asks."""

    product: str
    question: str
    begun: str
    """The first user turn's words: they name the conversation."""
    picture: bytes | None
    inspection_id: str | None
    words: int


def read(ctx: Context, body: ChatIn) -> Chat:
    """Raises `NotFound` (`model_not_found`), `Invalid` (`no_question`, `no_picture`, `several_pictures`, `image_url_refused`,
    `bad_image_url`). No address is ever fetched."""
    named = MODEL.fullmatch(body.model)
    if named is None:
        raise NotFound("A model is named `kensor:<product>`; see /v1/models.", code="model_not_found")
    turns = [message for message in body.messages if message.role == "user"]
    spoken = [text(turn) for turn in turns]
    if not turns or not spoken[-1]:
        raise Invalid("The last user turn holds no question.", code="no_question")
    shown = [urls for turn in turns if (urls := _urls(turn))]
    for url in (url for urls in shown for url in urls):
        _allowed(url)
    if not shown:
        way = "Send the part's picture as a data: URL in an image part, or name a recorded one as `inspection:ID` there."
        raise Invalid(f"There is no picture in this chat. {way}", code="no_picture")
    if len(shown[-1]) > 1:
        raise Invalid("A question is about one picture; ask about each by itself.", code="several_pictures")
    url, match = shown[-1][0], INSPECTION.fullmatch(shown[-1][0])
    words = sum(count(text(message)) for message in body.messages)
    return Chat(named[1], spoken[-1], spoken[0], None if match else _data(ctx, url), match[1] if match else None, words)


def known(ctx: Context, chat: Chat) -> str | None:
    """The recorded inspection that a chat names. Raises `NotFound`, `Invalid` (`other_product`)."""
    if chat.inspection_id is None:
        return None
    with ctx.database.read() as session:
        row = inspections.get(session, chat.inspection_id)
        if row.product.name != chat.product:
            raise Invalid(f"This inspection is of the product `{row.product.name}`.", code="other_product")
    return chat.inspection_id


def plan(ctx: Context, chat: Chat, caller: Principal) -> tuple[inspections.Plan, Once, str | None]:
    """Which recipe judges the picture, under which key, and the inspection it already had.

    A client sends the whole chat with each turn: the same picture from the same caller, judged by the same recipe within a day,
    is the same inspection."""
    assert chat.picture is not None
    try:
        planned = inspections.plan(ctx, chat.product, AS_IT_COMES)
    except NotFound as error:
        raise NotFound(error.message, code="model_not_found", **error.details) from error
    assert isinstance(planned, inspections.Plan)
    token = f"chat:{planned.sha256[:16]}:{hashlib.sha256(chat.picture).hexdigest()}"
    once = inspections.fingerprint(caller, token, chat.product, AS_IT_COMES, chat.picture)
    assert once is not None
    with ctx.database.read() as session:
        before = idempotency.earlier(session, once)
    return planned, once, None if before is None else str(before.body["id"])


def question(ctx: Context, body: ChatIn, chat: Chat) -> QuestionIn:
    """The question as `/v1/inspections/{id}/questions` takes it. Raises `Invalid`."""
    engines.check(ctx.settings, body.engine)
    try:
        return QuestionIn(question=chat.question, language=body.language, engine=body.engine, stream=body.stream)
    except ValidationError as error:
        first = error.errors()[0]
        raise Invalid(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def conversation(chat: Chat, inspection_id: str, caller: Principal) -> str:
    """The turns of one chat share a conversation: same caller, same inspection, same first words."""
    return str(uuid5(NAMESPACE_URL, f"kensor:{caller.id}:{inspection_id}:{chat.begun}"))


def models(session: Session) -> Models:
    """The products with a promoted recipe."""
    rows = product_queries.judging(session, MODELS)
    return Models(data=[Model(id=f"kensor:{row.name}", created=int(row.created_at.timestamp())) for row in rows])


def usage(chat: Chat, said: str) -> Usage:
    """Words and signs, since engines count tokens each in their own way."""
    return Usage(prompt_tokens=chat.words, completion_tokens=count(said), total_tokens=chat.words + count(said))


def count(words: str) -> int:
    """Words and signs."""
    return len(re.findall(r"\w+|[^\w\s]", words))


def text(message: Message) -> str:
    """A turn's words."""
    if isinstance(message.content, str):
        return message.content.strip()
    return "\n".join(part.text for part in message.content or [] if isinstance(part, TextPart)).strip()


def _urls(message: Message) -> list[str]:
    parts = message.content if isinstance(message.content, list) else []
    return [part.image_url.url for part in parts if isinstance(part, ImagePart)]


def _allowed(url: str) -> None:
    if DATA.match(url) or INSPECTION.fullmatch(url):
        return
    if url.lower().startswith("data:"):
        raise Invalid("A data: URL must read `data:image/png;base64,…`.", code="bad_image_url")
    message = "Pictures are taken as data: URLs or as `inspection:ID`; an address is never fetched."
    raise Invalid(message, code="image_url_refused")


def _data(ctx: Context, url: str) -> bytes:
    """The picture's bytes; what they are, their header says. Raises `Invalid`, and what a picture of that size raises."""
    try:
        return base64.b64decode(url[url.index(",") + 1 :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid("The data: URL is not base64.", code="bad_image_url") from error
