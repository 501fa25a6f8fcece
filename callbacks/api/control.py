"""What is done to an endpoint: pause, resume, secrets anew, a test."""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Final, Literal

from pydantic import Field
from typing_extensions import TypedDict

from callbacks import endpoints, trial
from callbacks.api.deliveries import Attempt, attempt_view
from callbacks.api.endpoints import Endpoint, locked, show
from callbacks.attempts import Attempts
from indexer.api.errors import Conflict
from indexer.api.inputs import Body, Instant
from indexer.api.operation import Call, Routes
from indexer.model import Refused

OVERLAP_SECONDS: Final = 24 * 3600  # in which the old secret signs beside the new one
MAX_OVERLAP_SECONDS: Final = 7 * 24 * 3600

routes = Routes("Endpoints")


class Resumption(Body):
    """What becomes of the deliveries that are held: all are sent, those since a time, or none."""

    held: Literal["all", "since", "skip"] = "all"
    since: Instant | None = None


class Rotation(Body):
    """`overlapSeconds`: 0 revokes all secrets before the new one."""

    overlap_seconds: Annotated[int, Field(ge=0, le=MAX_OVERLAP_SECONDS)] = OVERLAP_SECONDS


class NewSecret(TypedDict):
    secret: str


@routes.operation(
    "POST", "/v1/endpoints/{id}/pause", needs="write", answer=Endpoint, refuses=(409,)
)
async def pause_endpoint(call: Call) -> Endpoint:
    """Hold the endpoint's deliveries: none is lost, none is sent."""
    if await locked(call) == "disabled":
        raise Conflict("the endpoint is disabled: its deliveries are held already")
    await endpoints.pause(await call.begin(), call.path["id"])
    return await show(call, call.path["id"])


@routes.operation(
    "POST",
    "/v1/endpoints/{id}/resume",
    needs="write",
    takes=Resumption,
    answer=Endpoint,
    refuses=(409,),
)
async def resume_endpoint(call: Call, body: Resumption) -> Endpoint:
    """Send the endpoint's deliveries again, those that were held included.

    With `held` "since" what is older than `since` is cancelled, with "skip" all that is held.
    """
    if (body.since is not None) != (body.held == "since"):
        raise Refused('since: is given with held "since", and with nothing else')
    name, pool = call.path["id"], call.context.pool
    if (await show(call, name))["state"] == "active":
        if body.held != "all":
            raise Conflict("the endpoint is active: nothing is held")
        return await show(call, name)
    if body.held != "all":
        await endpoints.cancel(pool, name, "skipped", body.since)
    await endpoints.hurry(pool, name)
    await locked(call)
    await endpoints.resume(await call.begin(), name)
    return await show(call, name)


@routes.operation(
    "POST",
    "/v1/endpoints/{id}/rotate-secret",
    needs="write",
    takes=Rotation,
    answer=NewSecret,
)
async def rotate_secret(call: Call, body: Rotation) -> NewSecret:
    """Make a new secret, shown this once. The old one signs beside it for a day, or as told."""
    await locked(call)
    secret = await endpoints.rotate_secret(
        await call.begin(), call.context.vault, call.path["id"], body.overlap_seconds
    )
    return {"secret": secret}


@routes.operation("DELETE", "/v1/endpoints/{id}/old-secrets", needs="write", answer=NoneType)
async def revoke_old_secrets(call: Call) -> None:
    """Let the newest secret alone sign, from now on."""
    await locked(call)
    await endpoints.revoke_old_secrets(await call.begin(), call.path["id"])


@routes.operation("POST", "/v1/endpoints/{id}/test", needs="write", answer=Attempt, refuses=(409,))
async def send_test(call: Call) -> Attempt:
    """Send an endpoint.test now, whatever the endpoint's state, and show what came of it."""
    context, name = call.context, call.path["id"]
    await show(call, name)
    async with Attempts(context.vault, context.settings.callbacks) as attempts:
        try:
            row = await trial.send_test(context.pool, attempts, name)
        except trial.UnderWay as problem:
            raise Conflict(str(problem)) from None
    return attempt_view(row, context.vault)
