"""The shapes of requests and answers, from which the OpenAPI document is made."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

__all__ = [
    "MAX_TOGETHER",
    "Answer",
    "Answers",
    "Asked",
    "AskedTogether",
    "Bounds",
    "Card",
    "Failure",
    "Id",
    "Listed",
]

MAX_TOGETHER = 64
MAX_ITEMS = 10_000

Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
Ids = Annotated[list[Id], Field(max_length=MAX_ITEMS)]


class Shape(BaseModel):
    """A JSON object without fields that nobody knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Failure(Shape):
    """What went wrong."""

    code: str = Field(description="what went wrong, for programs", examples=["queue_full"])
    message: str = Field(description="what went wrong, for people")
    retryable: bool = Field(description="whether the same request may go well later")


class Bounds(Shape):
    """A range of an attribute whose values are numbers, such as a price."""

    min: float | None = Field(None, allow_inf_nan=False)
    max: float | None = Field(None, allow_inf_nan=False)


class Asked(Shape):
    """Whom to recommend to, and what may be recommended."""

    user_id: Id | None = Field(None, description="take this user's history")
    history: Ids | None = Field(None, description="item ids, oldest first, instead of a user")
    k: int = Field(10, ge=1, le=1000, description="items a list")
    exclude: Ids = Field([], description="items that must not be in the list")
    allow: Ids | None = Field(None, description="the only items that may be in the list")
    filters: dict[Id, Annotated[list[str], Field(max_length=1000)] | Bounds] = Field(
        {}, max_length=16, description="attribute values, one of which an item must have, or a range of numbers"
    )
    filter_seen: bool = Field(True, description="leave out items of the history")
    explain: bool = Field(False, description="say how the list came about; slower")

    @model_validator(mode="after")
    def _one_source(self) -> "Asked":
        if (self.user_id is None) == (self.history is None):
            raise ValueError("give either user_id or history")
        return self


class AskedTogether(Shape):
    """Several requests at once; they are queued together or not at all."""

    requests: list[Asked] = Field(min_length=1, max_length=MAX_TOGETHER)


class Card(Shape):
    """What is known of an item."""

    id: str
    title: str
    attributes: dict[str, str]


class Listed(Card):
    """A recommended item. score: what the list is ordered by."""

    score: float


class Answer(Shape):
    """A list, best first; shorter than k if no more items may be recommended."""

    request_id: str
    model: str = Field(description="fingerprint of the model and its items")
    items: list[Listed]
    explanation: dict[str, Any] | None = Field(None, description="see GET /v1/explain/{request_id}")


class Answers(Shape):
    """A list for each request, in order."""

    answers: list[Answer]
