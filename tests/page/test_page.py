"""The shipped workflow in ComfyUI's own page, with classic nodes and with Vue nodes."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from devtools.server.tiny_workflow import TINY_HEIGHT, TINY_WIDTH, load, only_node
from tests.conftest import REPOSITORY
from tests.page.page import ComfyPage, Json, Run

WORKFLOWS = REPOSITORY / "workflows"
API = load(WORKFLOWS / "api" / "first_minute.json")
SAMPLER, SCHEDULE = "HeadForcingSampler", "HeadForcingPromptSchedule"
SECONDS, CHUNKS, STEPS = 1.5, 3, 4
LONGEST_RUN = 120.0  # seconds, of which most is profiling on a busy machine
OWN_LOOK_UP = "https://api.comfy.org/"  # the page asks there about nodes that it shows in its error and search panels
REFUSED = ("status of 400", "Prompt execution failed")  # what the page itself says when the host refuses a prompt


@dataclass(frozen=True)
class Opened:
    """A page with the shipped workflow."""

    page: ComfyPage

    def screenshot(self, name: str) -> None:
        """Keep a picture of the whole graph."""
        self.page.show_all()
        self.page.keep_screenshot(name)

    def marked_types(self) -> list[str]:
        """The types of the nodes that are drawn with an error."""
        return self.page.tab.evaluate("() => window.app.graph.nodes.filter((n) => n.has_errors).map((n) => n.type)")

    def texts(self) -> list[str]:
        """Everything that text boxes in the page hold."""
        return self.page.tab.locator("textarea").evaluate_all("(all) => all.map((box) => box.value)")


@pytest.fixture
def opened(rendered: ComfyPage) -> Iterator[Opened]:
    """The page with the shipped workflow, as it is after opening the file. It must never reach beyond this machine."""
    rendered.console_errors.clear()
    rendered.blocked.clear()
    rendered.load_workflow(page_form(), "first_minute")
    yield Opened(rendered)
    assert [line for line in rendered.blocked if OWN_LOOK_UP not in line] == []


@pytest.fixture
def finished(opened: Opened) -> Run:
    """The workflow on the tiny models, run to its end."""
    make_tiny(opened.page, seed=1001 if opened.page.renderer == "classic" else 1002)
    assert opened.page.queue(), opened.page.node_errors()
    run = opened.page.wait_for_end(LONGEST_RUN)
    assert (run.outcome, run.error()) == ("success", "")
    return run


def test_it_opens_without_missing_nodes(opened: Opened) -> None:
    assert opened.page.missing_node_types(page_form()) == []
    opened.screenshot("opened")
    assert opened.page.console_errors == []


def test_the_page_sends_what_the_api_form_says(opened: Opened) -> None:
    sent = opened.page.api_prompt()
    assert sent.keys() == API.keys()
    for node_id, node in API.items():
        assert sent[node_id]["class_type"] == node["class_type"]
        # a stock node may have inputs that this host has and the oldest supported one has not
        names = sent[node_id]["inputs"] if node["class_type"].startswith("HeadForcing") else node["inputs"]
        assert {name: sent[node_id]["inputs"][name] for name in names} == node["inputs"]


def test_it_runs_with_progress_and_previews_and_shows_video_and_report(opened: Opened, finished: Run) -> None:
    sampler = only_node(API, SAMPLER)
    last = [detail for detail in finished.details("progress") if detail["node"] == sampler][-1]
    assert (last["value"], last["max"]) == (CHUNKS * STEPS, CHUNKS * STEPS)
    *texts, last_text = finished.texts()[-CHUNKS - 1 :]
    assert re.fullmatch(rf"{CHUNKS} chunks made in \d:\d\d", last_text)
    assert [re.split(r",| \|", text)[0] for text in texts] == [
        f"chunk {chunk} of {CHUNKS}" for chunk in range(1, CHUNKS + 1)
    ]
    previews = [detail for detail in finished.details("b_preview_with_metadata") if detail["nodeId"] == sampler]
    assert len(previews) >= CHUNKS  # each chunk moves

    opened.screenshot("finished")  # and brings all nodes into the page
    video = opened.page.tab.locator("video:not(.hf-strip-video)")
    video.wait_for()
    assert "/view?" in video.evaluate("(video) => video.currentSrc")
    report = finished.outputs()[only_node(API, "PreviewAny")]["text"][0]
    assert json.loads(report)["format"] == "headforcing.report/1" and report in opened.texts()
    assert opened.marked_types() == [] and opened.page.console_errors == []


def test_a_schedule_that_cannot_be_read_marks_its_node_and_says_why(opened: Opened) -> None:
    page = opened.page
    make_tiny(page, seed=1)
    page.set_widget(SCHEDULE, "text", "[0s] a red fox\n[soon] a river")
    assert page.queue() is False
    assert list(page.node_errors()) == [only_node(API, SCHEDULE)]
    page.settle()
    assert opened.marked_types() == [SCHEDULE]
    opened.screenshot("refused")
    page.tab.get_by_role("button", name="View details").click()
    page.tab.get_by_label("Info for Prompt Schedule - text").click()
    page.tab.get_by_text("Schedule line 2 begins with [soon], which is not a time").first.wait_for()
    assert [line for line in page.console_errors if not any(known in line for known in REFUSED)] == []


def test_searching_for_long_video_finds_the_sampler(opened: Opened) -> None:
    page = opened.page
    page.tab.evaluate("() => window.app.graph.clear()")
    page.settle()
    page.open_search()
    page.tab.keyboard.type("long video")
    page.tab.get_by_text("Head-Forced Sampler").first.click()
    page.tab.wait_for_function("() => window.app.graph.nodes.length === 1")
    assert page.tab.evaluate("() => window.app.graph.nodes[0].type") == SAMPLER
    page.tab.keyboard.press("Escape")


def page_form() -> Json:
    """The shipped workflow as the page saves it."""
    return json.loads((WORKFLOWS / "first_minute.json").read_text(encoding="utf-8"))


def make_tiny(page: ComfyPage, seed: int) -> None:
    """Put the open workflow on the tiny models, as devtools.tiny_workflow does with the API form."""
    assert page.replace_nodes("CLIPLoader", "HeadForcingTestLoadUMT5", {"clip_name": "tiny_umt5.safetensors"}) == 1
    for class_type in ("HeadForcingProfileHeads", SAMPLER):
        page.set_widget(class_type, "width", TINY_WIDTH)
        page.set_widget(class_type, "height", TINY_HEIGHT)
    page.set_widget(SAMPLER, "seconds", SECONDS)
    page.set_widget(SAMPLER, "seed", seed)
