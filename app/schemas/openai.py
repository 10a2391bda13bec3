"""Chat completions in OpenAI's shapes, as far as a picture and a question need them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from app.schemas.common import Text


class TextPart(BaseModel):
    """Words."""

    type: Literal["text"]
    text: Text


class ImageUrl(BaseModel):
    """Where a picture is: `data:` or `inspection:ID`."""

    url: str


class ImagePart(BaseModel):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(BaseModel):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[Part] | None = None


class StreamOptions(BaseModel):
    """What a stream brings beside the words."""

    include_usage: bool = False


class ChatIn(BaseModel):
    """A chat. Parameters of the sampling are accepted and have no effect: the reply is greedy."""

    model: Annotated[Text, StringConstraints(max_length=200)]
    """`kensor:<product>`."""
    messages: Annotated[list[Message], Field(min_length=1, max_length=200)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    engine: Annotated[Text, StringConstraints(min_length=1, max_length=100)] = "builtin"
    language: str | None = None


class Said(BaseModel):
    """The reply."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The one choice."""

    index: Literal[0] = 0
    message: Said
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class Usage(BaseModel):
    """Words and signs of the chat and of the reply."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """A reply; `kensor` holds the answer as `/v1/inspections/{id}/questions` gives it, and the inspection's id."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    kensor: dict[str, Any]


class Model(BaseModel):
    """A product that can be asked about."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["kensor"] = "kensor"


class Models(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]
