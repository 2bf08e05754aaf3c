"""How the pack's routes get onto a server."""

import asyncio
import importlib

from aiohttp import web

from tests.host.conftest import PACK, Pack


def test_nodes_load_without_a_server(pack: Pack) -> None:
    asyncio.run(asyncio.run(importlib.import_module(PACK).comfy_entrypoint()).on_load())


def test_a_second_copy_of_the_pack_adds_no_route_twice(pack: Pack) -> None:
    routes, table = pack.module("nodes.web_api.routes"), web.RouteTableDef()
    routes.add_routes(table)
    routes.add_routes(table)
    application = web.Application()
    application.add_routes(table)
    assert sorted(route.path for route in table) == sorted(routes.ROUTES)
