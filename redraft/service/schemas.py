"""The shapes of requests and answers, from which the OpenAPI document is made."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

__all__ = [
    "MAX_TOGETHER",
    "Answer",
    "Answers",
    "Asked",
    "AskedTogether",
    "Bounds",
    "Card",
    "EventsBody",
    "Failure",
    "Happened",
    "Id",
    "ItemBody",
    "ItemFound",
    "ItemPut",
    "ItemsBody",
    "Listed",
    "LoadBody",
    "ModelFound",
    "ModelsFound",
    "PromoteBody",
    "Remembered",
    "Similar",
    "SimilarItems",
    "UserBody",
    "UserFound",
    "Users",
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

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["user_id"], "properties": {"user_id": {"type": "string"}, "history": {"type": "null"}}},
                {"required": ["history"], "properties": {"history": {"type": "array"}, "user_id": {"type": "null"}}},
            ]
        }
    )

    user_id: Id | None = Field(None, description="take this user's history")
    history: Ids | None = Field(None, description="item ids, oldest first, instead of a user")
    times: Annotated[list[Annotated[int, Field(ge=0, le=10**11)]], Field(max_length=MAX_ITEMS)] | None = Field(
        None, description="when each item of the history came, seconds since 1970; for models that read times"
    )
    k: int = Field(10, ge=1, le=1000, description="items per list")
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
        if self.times is not None and len(self.times) != len(self.history or ()):
            raise ValueError("times are for a history, one for each of its items")
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


class Happened(Shape):
    """Somebody did something with an item. The same event sent again changes nothing."""

    event_id: Id = Field(description="unique among the user's events")
    user_id: Id
    item_id: Id
    kind: Literal["view", "click", "cart", "purchase", "custom"]
    time: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1e11)] | AwareDatetime | None = Field(
        None, description="seconds since 1970, or ISO 8601 with a zone; now if left out"
    )
    value: float | None = Field(None, allow_inf_nan=False, ge=0, description="what was paid, for analysis")


class EventsBody(Shape):
    """Events, in any order; all are remembered or none."""

    events: list[Happened] = Field(min_length=1, max_length=1000)


class Remembered(Shape):
    """How many events were new, and how many were known."""

    accepted: int
    duplicates: int


Texts = Annotated[
    dict[Id, Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")]], Field(max_length=64)
]
Text = Annotated[str, StringConstraints(max_length=20_000, pattern=r"^[^\x00]*$")]


class UserBody(Shape):
    """What is known of a user beside events."""

    attributes: Texts = {}


class UserFound(Shape):
    """Everything known of a user. before: items of the data set, oldest first, then events."""

    id: str
    attributes: dict[str, str]
    before: list[Card]
    events: list[dict[str, Any]]


class Users(Shape):
    """Ids of users."""

    users: list[str]


class ItemPut(Shape):
    """What is known of an item; what is left out stays as the run knows it."""

    title: Text | None = None
    description: Text | None = None
    attributes: Texts = {}
    available: bool = Field(True, description="on sale: whether it may be recommended")


class ItemBody(ItemPut):
    """An item with its id."""

    id: Id


class ItemsBody(Shape):
    """Items to put."""

    items: list[ItemBody] = Field(min_length=1, max_length=1000)


class ItemFound(Card):
    """An item. codes: its semantic ID."""

    description: str
    available: bool
    codes: list[int]
    model: str


class Similar(Card):
    """An item near another. shared: how many leading codes they share."""

    shared: int


class SimilarItems(Shape):
    """Items near another, nearest first."""

    model: str
    items: list[Similar]


class LoadBody(Shape):
    """A run to load."""

    run: Id = Field(description="name of a run folder beside the one that was started with")


class PromoteBody(Shape):
    """A model to put in place."""

    fingerprint: Id


class ModelFound(Shape):
    """A model. parent: fingerprint of the run that new items were added to."""

    run: str
    fingerprint: str
    parent: str | None
    items: int


class ModelsFound(Shape):
    """The model that answers, the one before, and the one that stands ready."""

    current: ModelFound
    previous: ModelFound | None
    staged: ModelFound | None
