"""The pack's routes on the host's own server: the one place that reads what a page asks, and answers it.

A route is a function in a module of its own; ROUTES lists them. They open no port, write into no file and reach nothing
that a page names; of a run's name, which must be plain, they look up whether it is kept, read its film strip and its
takes, and rename the folders of one that is chosen, then or after a crash. The host turns away requests of other sites;
only application/json is read, which a plain form of another site cannot send.
"""

from __future__ import annotations

import logging
from asyncio import IncompleteReadError, to_thread
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from server import PromptServer

from ...headforcing_core.files.strict_json import Fields, Json, parse_json
from ..run.live_mailbox import NotNow
from . import cost_route, edit_schedule_route, live_route, schedule_route, strip_route, takes_route

MOST_BYTES = 64 * 1024
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Route:
    """A question with exactly these fields, and what answers it.

    `answer` reads each field by its type and range with `Fields`, whose ValueErrors become HTTP 400, and NotNow becomes
    HTTP 409; it raises no others. What a page may well ask but cannot have is part of the answer. It must be quick: the
    server waits for it, unless it runs `in_thread`.
    """

    fields: tuple[str, ...]
    answer: Callable[[Fields], dict[str, Json]]
    in_thread: bool = False


ROUTES = {
    "/head_forcing/cost": Route(cost_route.FIELDS, cost_route.answer),
    "/head_forcing/schedule": Route(schedule_route.FIELDS, schedule_route.answer, in_thread=True),
    "/head_forcing/edit_schedule": Route(edit_schedule_route.FIELDS, edit_schedule_route.answer, in_thread=True),
    "/head_forcing/live_prompt": Route(live_route.FIELDS, live_route.answer),
    "/head_forcing/strip": Route(strip_route.FIELDS, strip_route.answer, in_thread=True),
    "/head_forcing/takes": Route(takes_route.FIELDS, takes_route.answer, in_thread=True),
    "/head_forcing/choose_take": Route(takes_route.CHOICE_FIELDS, takes_route.answer_choice, in_thread=True),
}


def register_routes() -> None:
    """Add the routes to the host's server; nothing when nodes run without one."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        add_routes(server.routes)


def add_routes(table: web.RouteTableDef) -> None:
    """Add the routes to a table, but for those that another copy of the pack has added: the host would not start."""
    taken = {route.path for route in table if isinstance(route, web.RouteDef)}
    for path, route in ROUTES.items():
        if path in taken:
            _log.warning("%s is there already: another copy of this pack is installed, and its answers are used.", path)
        else:
            table.post(path)(_handler(path, route))


def _handler(path: str, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            asked = Fields.of(parse_json(await _body(request)), "the question", route.fields)
            answer = await to_thread(route.answer, asked) if route.in_thread else route.answer(asked)
            return web.json_response(answer)
        except ValueError as error:
            message = (
                f"{path} cannot answer: {error}. It reads what docs/live_prompts.md, docs/takes.md and the head of its "
                "module name. If the page itself asked, it is older than the server: restart ComfyUI and reload the "
                "page."
            )
            return web.json_response({"error": message}, status=400)
        except NotNow as refusal:
            return web.json_response({"error": str(refusal)}, status=409)

    return handle


async def _body(request: web.Request) -> bytes:
    if request.content_type != "application/json":
        raise ValueError(f"the body is {request.content_type[:60]}, not application/json")
    try:
        await request.content.readexactly(MOST_BYTES + 1)
    except IncompleteReadError as end:
        return end.partial
    raise ValueError(f"the body has more than {MOST_BYTES} bytes")
