"""The server has the newer packages; its routes, a run, an interrupt."""

import json

from devtools.setup.newer import pins, versions_in
from headforcing_core.farm.loopback import request
from headforcing_core.farm.process import Server
from tests.conftest import require
from tests.server.test_interrupt import test_the_next_run_is_bit_identical_to_one_before_the_interrupt
from tests.server.test_routes import (
    test_an_error_of_the_text_is_an_answer_with_its_line,
    test_the_chunk_is_that_of_the_loader,
    test_the_schedule_route_tells_where_scenes_fall,
)


def test_the_server_has_the_newer_packages(comfyui: Server) -> None:
    told = json.loads(request(f"{comfyui.url}/system_stats"))["system"]["comfy_package_versions"]
    newer = versions_in(require("HEADFORCING_NEWER"))
    assert newer.keys() == {pin.partition("==")[0] for pin in pins()}
    assert {each["name"]: each["installed"] for each in told if each["name"] in newer} == newer
