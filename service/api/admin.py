"""Routes for whoever runs the service, for keys with the scope `admin`: `POST /admin/reload`."""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel

from service.access.callers import require
from service.access.keys import Scope
from service.api.deadline import DEADLINE_HEADER
from service.api.translation_service import TranslationService
from service.errors import ShuttingDown
from service.lifecycle import Phase
from service.protocol.error_body import ErrorBody
from service.serving.reload import Report, Result

_WAIT_S = 50.0  # for models to load; proxies commonly give up after 60
_LOOK_S = 0.1  # how soon a service that ends lets go of who waits


class ModelChange(BaseModel):
    """One model's part in a reload."""

    name: str
    result: Result
    version: str | None = None
    previous: str | None = None
    reason: str | None = None


class ReloadResponse(BaseModel):
    """What a reload came to; `ok` when what the models folder holds is what is served."""

    done: bool
    ok: bool
    problem: str | None = None
    models: list[ModelChange] = []


def _admins_only(request: Request) -> None:
    require(request, Scope.ADMIN)


def admin_router(translation_service: TranslationService) -> APIRouter:
    """Routes under /admin."""
    router = APIRouter(prefix="/admin", tags=["operation"], dependencies=[Depends(_admins_only)])

    @router.post(
        "/reload",
        summary="Serve what the models folder holds now",
        response_model=ReloadResponse,
        response_model_exclude_none=True,
        responses={
            202: {"model": ReloadResponse, "description": "Not done yet; it goes on"},
            401: {"model": ErrorBody, "description": "A key is missing"},
            403: {"model": ErrorBody, "description": "The key is none, or lacks the scope admin"},
            422: {"model": ReloadResponse, "description": "Something could not be loaded"},
        },
    )
    async def reload(
        response: Response,
        wait_s: Annotated[
            float,
            Header(alias=DEADLINE_HEADER, gt=0, le=3600, allow_inf_nan=False),
        ] = _WAIT_S,
    ) -> ReloadResponse:
        """Loads what is new, exchanges what has changed, and lets go of what is gone.

        Answers when that is done, with what became of every model. The old version of a model
        serves until the new one does; what cannot be loaded leaves it in its place.
        """
        report = await _report(translation_service, wait_s)
        if report is None:
            response.status_code = 202
            return ReloadResponse(done=False, ok=False)
        if not report.ok:
            response.status_code = 422 if report.done else 202
        return ReloadResponse(
            done=report.done,
            ok=report.ok,
            problem=report.problem,
            models=[
                ModelChange(
                    name=change.name,
                    result=change.result,
                    version=change.version,
                    previous=change.previous,
                    reason=change.reason,
                )
                for change in report.changes
            ],
        )

    return router


async def _report(translation_service: TranslationService, wait_s: float) -> Report | None:
    """What the reload came to; None when it takes longer, in which case it goes on."""
    until = time.monotonic() + wait_s
    # Never cancelled by one that waits for it: others may, and the models are half exchanged.
    reloading = None
    while translation_service.lifecycle.phase is not Phase.CLOSING:
        reloading = reloading or translation_service.registry.reloader.reload()
        left_s = until - time.monotonic()
        await asyncio.wait({reloading}, timeout=min(left_s, _LOOK_S))
        if reloading.done():
            return reloading.result()
        if left_s <= 0:
            return None
    raise ShuttingDown("the service is shutting down; ask another instance")
