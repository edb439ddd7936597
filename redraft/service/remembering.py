"""Routes of what is remembered: events, users, items."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query

from redraft.service.asking import caller_with
from redraft.service.errors import not_found
from redraft.service.keys import Caller, Keys
from redraft.service.schemas import (
    Card,
    EventsBody,
    Id,
    ItemBody,
    ItemFound,
    ItemPut,
    ItemsBody,
    Remembered,
    Similar,
    SimilarItems,
    UserBody,
    UserFound,
    Users,
)
from redraft.service.served import Served
from redraft.service.service import Service

__all__ = ["add_memory_routes"]

UserId = Annotated[Id, Path(description="may hold slashes")]
ItemId = Annotated[Id, Path(description="may hold slashes")]


def add_memory_routes(app: FastAPI, service: Service, keys: Keys) -> None:
    """Add /v1/events, /v1/users, /v1/items and /v1/similar."""
    _add_user_routes(app, service, keys)
    _add_item_routes(app, service, keys)


def _add_user_routes(app: FastAPI, service: Service, keys: Keys) -> None:
    """Add /v1/events and /v1/users."""
    Writer = Annotated[Caller, Depends(caller_with(keys, "write"))]
    memory = service.memory

    @app.post("/v1/events", tags=["events"])
    async def events(body: EventsBody, caller: Writer) -> Remembered:
        """Remember what users did; histories hold it from the next request on."""
        accepted, duplicates = await memory.happened(body.events, caller)
        return Remembered(accepted=accepted, duplicates=duplicates)

    @app.get("/v1/users", tags=["users"])
    async def users(
        caller: Writer,
        prefix: Annotated[str, Query(max_length=256, pattern=r"^[^\x00]*$")] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> Users:
        """Users whose ids start with a prefix."""
        return Users(users=await memory.search(prefix, limit, caller))

    @app.get("/v1/users/{user_id:path}", tags=["users"])
    async def user(user_id: UserId, caller: Writer) -> UserFound:
        """Everything that is known of a user."""
        person = await memory.person(user_id, caller)
        served = service.served
        happened = [
            {"event_id": e.id, "kind": e.kind, "time": e.time / 1e6} | _card(served, e.item) for e in person.events
        ]
        before = [Card(**_card(served, item)) for item in person.before]
        return UserFound(id=user_id, attributes=person.attributes, before=before, events=happened)

    @app.put("/v1/users/{user_id:path}", tags=["users"])
    async def put_user(user_id: UserId, body: UserBody, caller: Writer) -> dict[str, str]:
        """Set a user's attributes."""
        await memory.put_user(user_id, body.attributes, caller)
        return {"id": user_id}

    @app.delete("/v1/users/{user_id:path}", tags=["users"])
    async def erase_user(user_id: UserId, caller: Writer) -> dict[str, str]:
        """Erase a person's data, in the store and in the journals."""
        await memory.erase(user_id, caller)
        service.forget(user_id)
        return {"erased": user_id}


def _add_item_routes(app: FastAPI, service: Service, keys: Keys) -> None:
    """Add /v1/items and /v1/similar."""
    Reader = Annotated[Caller, Depends(caller_with(keys, "read"))]
    Writer = Annotated[Caller, Depends(caller_with(keys, "write"))]
    memory = service.memory

    @app.put("/v1/items", tags=["items"])
    async def put_items(body: ItemsBody, caller: Writer) -> dict[str, int]:
        """Set several items at once."""
        caller.speaks_for_the_shop()
        await memory.put_items(body.items)
        return {"items": len(body.items)}

    @app.get("/v1/items/{item_id:path}", tags=["items"])
    async def item(item_id: ItemId, caller: Reader) -> ItemFound:
        """An item, with its semantic ID."""
        served = service.served
        number = _number(served, item_id)
        return ItemFound(
            **served.card(number),
            description=served.catalogue.descriptions[number],
            available=bool(served.on_sale[number]),
            codes=served.recommender.ids.codes[number].tolist(),
            model=served.fingerprint,
        )

    @app.put("/v1/items/{item_id:path}", tags=["items"])
    async def put_item(item_id: ItemId, body: ItemPut, caller: Writer) -> dict[str, str]:
        """Set an item; a new one gets a semantic ID and can be recommended when this is answered."""
        caller.speaks_for_the_shop()
        await memory.put_items([ItemBody(id=item_id, **body.model_dump())])
        return {"id": item_id, "model": service.served.fingerprint}

    @app.delete("/v1/items/{item_id:path}", tags=["items"])
    async def remove_item(item_id: ItemId, caller: Writer) -> dict[str, str]:
        """Take an item out of the catalogue."""
        caller.speaks_for_the_shop()
        await memory.remove_item(item_id)
        return {"removed": item_id}

    @app.get("/v1/similar/{item_id:path}", tags=["items"])
    async def similar(item_id: ItemId, caller: Reader, k: Annotated[int, Query(ge=1, le=100)] = 10) -> SimilarItems:
        """Items on sale whose semantic IDs begin as this one's, those with most attributes in common first."""
        served = service.served
        neighbours = served.similar(_number(served, item_id), k)
        items = [Similar(**served.card(number), shared=shared) for number, shared in neighbours]
        return SimilarItems(model=served.fingerprint, items=items)


def _number(served: Served, item: str) -> int:
    number = served.numbers.get(item)
    if number is None or number in served.removed:
        raise not_found("unknown_item", f"no item {item!r}")
    return number


def _card(served: Served, item: str) -> dict[str, Any]:
    """An item that somebody once did something with, also if this model does not know it."""
    number = served.numbers.get(item)
    return {"id": item, "title": "", "attributes": {}} if number is None else served.card(number)
