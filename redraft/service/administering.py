"""Routes that change what answers: models and draining. They need a key with the scope admin."""

from typing import Annotated

from fastapi import Depends, FastAPI

from redraft.service.asking import caller_with
from redraft.service.keys import Caller, Keys
from redraft.service.live import LiveModel
from redraft.service.schemas import LoadBody, ModelFound, ModelsFound, PromoteBody
from redraft.service.service import Service

__all__ = ["add_admin_routes"]


def add_admin_routes(app: FastAPI, service: Service, keys: Keys) -> None:
    """Add /v1/admin."""
    Admin = Annotated[Caller, Depends(caller_with(keys, "admin"))]

    @app.get("/v1/admin/models", tags=["admin"])
    async def models(caller: Admin) -> ModelsFound:
        """The model that answers, the one before, and the one that stands ready."""
        return _found(service)

    @app.post("/v1/admin/models", tags=["admin"])
    async def load(body: LoadBody, caller: Admin) -> ModelsFound:
        """Load and warm a run beside the one that answers."""
        await service.load(body.run)
        return _found(service)

    @app.post("/v1/admin/models/promote", tags=["admin"], responses={409: {"description": "nothing stands ready"}})
    async def promote(body: PromoteBody, caller: Admin) -> ModelsFound:
        """Let the loaded model answer."""
        await service.promote(body.fingerprint)
        return _found(service)

    @app.post("/v1/admin/models/rollback", tags=["admin"], responses={409: {"description": "nothing was before"}})
    async def roll_back(caller: Admin) -> ModelsFound:
        """Let the model before answer again."""
        await service.roll_back()
        return _found(service)

    @app.post("/v1/admin/drain", tags=["admin"])
    async def drain(caller: Admin) -> dict[str, bool]:
        """Turn requests away from now on, and say so to whoever asks whether this process is ready."""
        service.draining = True
        return {"draining": True}


def _found(service: Service) -> ModelsFound:
    models = service.models
    return ModelsFound(
        current=_model(models.current),
        previous=None if models.previous is None else _model(models.previous),
        staged=None if models.staged is None else _model(models.staged),
    )


def _model(live: LiveModel) -> ModelFound:
    served = live.served
    return ModelFound(run=live.run, fingerprint=served.fingerprint, parent=served.parent, items=served.n_items)
