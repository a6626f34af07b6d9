"""Routes for operators, who need a key with the scope `admin`: `POST /admin/reload`."""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel

from service.access.callers import require
from service.access.keys import Scope
from service.errors import ShuttingDown
from service.lifecycle import Lifecycle, Phase
from service.limits import DEADLINE_HEADER
from service.protocol.error_body import ErrorBody
from service.request_context import context_of
from service.serving.reload import Reloader, ReloadReport, ReloadResult

_WAIT_S = 50.0  # for models to load; proxies commonly give up after 60 s
_POLL_S = 0.1  # interval at which the request checks whether the service is shutting down


class ModelChange(BaseModel):
    """What a reload did with one model."""

    name: str
    result: ReloadResult
    version: str | None = None
    previous: str | None = None
    reason: str | None = None


class ReloadResponse(BaseModel):
    """The outcome of a reload; `ok`: every checkpoint of the models folder is served."""

    done: bool
    ok: bool
    problem: str | None = None
    models: list[ModelChange] = []


def _admins_only(request: Request) -> None:
    require(context_of(request.scope).caller, Scope.ADMIN)


def admin_router(reloader: Reloader, lifecycle: Lifecycle) -> APIRouter:
    """Routes under /admin."""
    router = APIRouter(prefix="/admin", tags=["operation"], dependencies=[Depends(_admins_only)])

    @router.post(
        "/reload",
        summary="Reload the models folder",
        response_model=ReloadResponse,
        response_model_exclude_none=True,
        responses={
            202: {"model": ReloadResponse, "description": "Still loading; the reload continues"},
            401: {"model": ErrorBody, "description": "A key is missing"},
            403: {"model": ErrorBody, "description": "The key is invalid or lacks the scope admin"},
            422: {"model": ReloadResponse, "description": "A model could not be loaded"},
        },
    )
    async def reload(
        response: Response,
        wait_s: Annotated[
            float,
            Header(alias=DEADLINE_HEADER, gt=0, le=3600, allow_inf_nan=False),
        ] = _WAIT_S,
    ) -> ReloadResponse:
        """Adds new models, replaces changed ones and removes deleted ones.

        The answer comes when the reload is done, with the result for every model. The old version
        of a model serves until the new one is ready, and keeps serving if the new one fails.
        """
        report = await _report(reloader, lifecycle, wait_s)
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


async def _report(reloader: Reloader, lifecycle: Lifecycle, wait_s: float) -> ReloadReport | None:
    """The outcome of a reload; None when it takes longer than `wait_s` and continues."""
    until = time.monotonic() + wait_s
    # Not cancelled when this request ends: other requests may share the reload.
    reloading = None
    while lifecycle.phase is not Phase.CLOSING:
        reloading = reloading or reloader.reload()
        left_s = until - time.monotonic()
        await asyncio.wait({reloading}, timeout=min(left_s, _POLL_S))
        if reloading.done():
            return reloading.result()
        if left_s <= 0:
            return None
    raise ShuttingDown("the service is shutting down; ask another instance")
