"""What the Head-Forced Sampler shows under its widgets, with classic nodes and with Vue nodes."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
from playwright.sync_api import Locator, Request, Route, expect

from headforcing_core.checkpoint.wan_weights import HEAD_DIM
from headforcing_core.geometry import VideoShape, chunk_start_second, tokens_per_frame
from headforcing_core.heads.rules import LabelRule, label_heads
from headforcing_core.kv_memory.memory_plan import FrameOfHead
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.memory_size import plan_memory
from tests.page.page import AA, ComfyPage, Run

SAMPLER, POLICY, SCHEDULE = "HeadForcingSampler", "HeadForcingCachePolicy", "HeadForcingPromptSchedule"
FOX, RIVER, CITY = "a red fox in deep snow", "the fox finds a frozen river", "a city at night"
# every widget that a test changes: the page keeps the values of a node that it had under the same id
LENGTH = {
    "seconds": 20.0,
    "width": 832,
    "height": 480,
    "run_name": "",
    "seed": 0,
    "strength": 0.8,
    "noise": "per_chunk",
}
GRAPH = {
    "1": {
        "class_type": "HeadForcingLoadARModel",
        "inputs": {"model_name": "self_forcing_dmd.safetensors", "chunk_frames": 0},
    },
    "2": {"class_type": "HeadForcingTestLoadUMT5", "inputs": {"clip_name": "tiny_umt5.safetensors"}},
    "3": {"class_type": SCHEDULE, "inputs": {"clip": ["2", 0], "text": FOX}},
    "4": {"class_type": POLICY, "inputs": {"preset": "paper", "memory_episodes": -1}},
    "5": {"class_type": SAMPLER, "inputs": {"model": ["1", 0], "schedule": ["3", 0], "policy": ["4", 0], **LENGTH}},
    "6": {"class_type": "PreviewAny", "inputs": {"source": ["5", 3]}},
}
PLACES = {"1": [-760, 0], "2": [-760, 220], "3": [-380, 0], "4": [-380, 420], "5": [60, 0], "6": [520, 0]}
LONG = 40.0  # seconds of video: such a run goes on while a hand types, on a fast machine too
BRIEF = 12.0  # such a run is seen to go on
LONGEST_RUN = 180.0
REFUSED = "status of 409"  # the browser's own line on every refusal of a server

expect.set_options(timeout=30_000)  # milliseconds; a busy machine is slow


@dataclass(frozen=True)
class Opened:
    """A page with one sampler."""

    page: ComfyPage

    @property
    def panel(self) -> Locator:
        return self.page.tab.locator(".hf-panel")

    @property
    def cost(self) -> Locator:
        return self.panel.locator(".hf-cost")

    @property
    def box(self) -> Locator:
        return self.panel.get_by_label("Live prompt", exact=True)

    @property
    def send(self) -> Locator:
        return self.panel.get_by_role("button", name="Send")

    @property
    def copy(self) -> Locator:
        return self.panel.get_by_role("button", name="Copy as schedule")

    @property
    def told(self) -> Locator:
        return self.panel.locator(".hf-live-told")

    def show_live(self) -> None:
        """Open the box by hand."""
        self.panel.locator("summary").click()

    def wait_for_cost(self, words: str) -> None:
        """Wait until the line, or the sentence under it, holds these words."""
        expect(self.cost).to_contain_text(words)

    def parts(self) -> list[str]:
        """The parts of the line."""
        return self.cost.locator(".hf-cost-part").all_inner_texts()

    def colour(self, element: Locator) -> str:
        return element.evaluate("(element) => getComputedStyle(element).color")

    def theme(self, variable: str) -> str:
        """A colour of the host's theme, as the browser reads it."""
        return self.panel.evaluate(
            """(panel, variable) => {
              const probe = panel.appendChild(document.createElement('i'));
              probe.style.color = `var(${variable})`;
              const colour = getComputedStyle(probe).color;
              probe.remove();
              return colour;
            }""",
            variable,
        )

    def load_width(self, width: int) -> None:
        """Give the sampler a width as a workflow file may have it: typed, it would be rounded."""
        self.page.tab.evaluate(
            "(width) => { app.graph.getNodeById('5').widgets.find((each) => each.name === 'width').value = width; }",
            width,
        )

    def make_tiny(self, seconds: float, seed: int) -> None:
        """Let a run take seconds, not hours."""
        for widget, value in {"width": 192, "height": 128, "seconds": seconds, "seed": seed}.items():
            self.page.set_widget(SAMPLER, widget, value)
        self.page.set_widget(POLICY, "preset", "uniform")

    def say(self, event: str, **said: object) -> None:
        """Let the page hear an event of the sampler, as the server sends it."""
        self.page.tab.evaluate(
            "([event, detail]) => app.api.dispatchEvent(new CustomEvent(event, { detail }))",
            [event, {"node_id": "5", **said}],
        )

    def report(self, run: Run) -> dict:
        """The sampler's report."""
        return json.loads(run.outputs()["6"]["text"][0])

    def screenshot(self, name: str) -> None:
        """Keep a picture of the nodes."""
        self.page.keep_screenshot(f"sampler_{name}")


@pytest.fixture
def opened(rendered: ComfyPage) -> Iterator[Opened]:
    """The sampler with a loader, a schedule and a policy. Nothing may fail, or reach beyond this machine."""
    opened = Opened(rendered)
    load(opened)
    rendered.console_errors.clear()
    yield opened
    assert (rendered.console_errors, rendered.blocked) == ([], [])


def load(opened: Opened, more: Mapping[str, object] | None = None) -> None:
    """Open the graph, the sampler in the middle, with more nodes or others in the place of some."""
    opened.page.tab.evaluate(
        """async ({graph, places}) => {
          await app.loadApiJson(graph, 'panel');
          for (const [id, place] of Object.entries(places)) app.graph.getNodeById(id).pos = place;
          const after = app.graph.getNodeById('5').widgets.find((each) => each.name === 'control_after_generate');
          after.value = 'fixed';
          app.canvas.ds.scale = 0.9;
          app.canvas.ds.offset = [850, 130];
          app.canvas.setDirty(true, true);
        }""",
        {"graph": {**GRAPH, **(more or {})}, "places": PLACES},
    )
    opened.wait_for_cost("27 chunks")


def memory(preset: str, width: int = 832, height: int = 480) -> str:
    """What the core reckons for 20 s of Wan 2.1 1.3B in 16 bit."""
    video = VideoShape(20.0, 16.0, width, height, 3)
    fitted = fit_policy(PRESETS[preset], 3, 21, video.frames)
    labels = label_heads(LabelRule("random"), 30, 12, None)
    if not PRESETS[preset].needs_profile:
        labels = (("memory",) * 12,) * 30
    frame = FrameOfHead(tokens_per_frame(*video.latent_size), HEAD_DIM, 2)
    held = plan_memory(fitted, labels, 27).expected_bytes(frame)
    return f"memory for keys and values up to {held / 1e9:.{0 if held >= 9.95e9 else 1}f} GB, "


def test_the_line_says_what_a_run_takes(opened: Opened) -> None:
    length, held = opened.parts()
    assert length == "27 chunks, 81 frames, 20.0 s"
    assert held.startswith(memory("paper")) and re.search(r"[\d.]+ GB free$", held)
    assert "Reckoned for Wan 2.1 1.3B" in (opened.cost.get_attribute("title") or "")
    opened.screenshot("plain")


def test_the_line_follows_the_widgets_of_all_three_nodes(opened: Opened) -> None:
    page = opened.page
    page.set_widget(POLICY, "preset", "low_vram")
    opened.wait_for_cost(memory("low_vram"))
    page.set_widget(SAMPLER, "width", 480)
    opened.wait_for_cost(memory("low_vram", width=480))
    page.set_widget(SAMPLER, "run_name", "a film")
    opened.wait_for_cost("disk ")
    page.set_widget("HeadForcingLoadARModel", "chunk_frames", 1)
    opened.wait_for_cost("81 chunks, 81 frames")


def test_the_line_knows_the_steps_of_a_scheduler(opened: Opened) -> None:
    opened.page.set_widget(POLICY, "preset", "recall")
    opened.wait_for_cost("up to 9 passes more, and 3 for each")
    opened.page.tab.evaluate(
        """() => {
          const scheduler = LiteGraph.createNode("BasicScheduler");
          app.graph.add(scheduler);
          const sampler = app.graph.getNodeById('5');
          scheduler.connect(0, sampler, sampler.inputs.findIndex((input) => input.name === 'sigmas'));
          scheduler.widgets.find((each) => each.name === 'steps').value = 1;
        }"""
    )
    opened.wait_for_cost("up to 12 passes more, and 4 for each")
    opened.page.set_widget("BasicScheduler", "steps", 2)
    opened.wait_for_cost("up to 9 passes more, and 3 for each")


def test_the_line_knows_that_a_video_may_be_shorter(opened: Opened) -> None:
    opened.page.set_widget(POLICY, "preset", "recall")
    opened.page.tab.evaluate(
        """() => {
          const source = LiteGraph.createNode('EmptyImage');
          app.graph.add(source);
          const sampler = app.graph.getNodeById('5');
          source.connect(0, sampler, sampler.inputs.findIndex((input) => input.name === 'video'));
        }"""
    )
    opened.wait_for_cost("up to 27 chunks, 81 frames, 20.0 s")
    opened.page.set_widget(SAMPLER, "strength", 0.6)
    opened.wait_for_cost("up to 12 passes more, and 4 for each")


def test_a_length_that_only_a_sound_gives_is_not_told_and_an_error_without_one(opened: Opened) -> None:
    opened.page.set_widget(SAMPLER, "seconds", 0)
    opened.wait_for_cost("seconds is 0.0. A video needs seconds above 0, unless audio is connected")
    ruler = opened.page.tab.locator(".hf-ruler")
    expect(ruler).to_contain_text("length not known")
    opened.page.tab.evaluate(
        """() => {
          const sound = LiteGraph.createNode('EmptyAudio');
          app.graph.add(sound);
          const sampler = app.graph.getNodeById('5');
          sound.connect(0, sampler, sampler.inputs.findIndex((input) => input.name === 'audio'));
        }"""
    )
    expect(opened.cost).to_have_text("as long as audio")
    expect(ruler).to_contain_text("length not known")
    bypass = "() => { app.graph.nodes.find((node) => node.type === 'EmptyAudio').mode = 4; }"
    opened.page.tab.evaluate(bypass)
    opened.wait_for_cost("seconds is 0.0. A video needs seconds above 0, unless audio is connected")


def test_without_a_policy_it_is_paper(opened: Opened) -> None:
    opened.page.set_widget(POLICY, "preset", "uniform_21")
    opened.wait_for_cost(memory("uniform_21"))
    opened.page.tab.evaluate("() => app.graph.remove(app.graph.getNodeById('4'))")
    opened.wait_for_cost(memory("paper"))


def test_what_only_a_run_can_know_is_left_out(opened: Opened) -> None:
    opened.page.tab.evaluate(
        """() => {
          const length = LiteGraph.createNode('StringLength');
          app.graph.add(length);
          const sampler = app.graph.getNodeById('5');
          length.connect(0, sampler, sampler.inputs.findIndex((input) => input.name === 'width'));
        }"""
    )
    expect(opened.cost).to_have_text("27 chunks, 81 frames, 20.0 s")


def test_an_error_is_that_of_the_node(opened: Opened) -> None:
    opened.load_width(130)
    with pytest.raises(ValueError) as refused:
        VideoShape(20.0, 16.0, 130, 480, 3)
    sentence = opened.cost.get_by_role("status")
    expect(sentence).to_have_text(str(refused.value))
    opened.screenshot("error")
    opened.page.set_widget(SAMPLER, "width", 832)
    expect(sentence).to_be_hidden()
    opened.page.set_widget(POLICY, "memory_episodes", 12)
    opened.wait_for_cost("Shrink memory_episodes by 3")


def test_more_than_there_is_is_a_warning_in_the_warning_colour(opened: Opened) -> None:
    opened.page.set_widget(SAMPLER, "width", 4096)
    opened.page.set_widget(SAMPLER, "height", 4096)
    opened.wait_for_cost("Keys and values alone take more than the ")
    assert opened.colour(opened.cost.get_by_role("status")) not in (
        opened.theme("--input-text"),
        opened.theme("--descrip-text"),
        opened.theme("--error-text"),
    )
    opened.screenshot("warning")


def test_what_is_saved_and_sent_is_the_same_without_the_script(opened: Opened) -> None:
    def saved_and_sent() -> tuple[object, object]:
        nodes = opened.page.tab.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize())).nodes")
        return [(node["type"], node["widgets_values"], node["inputs"]) for node in nodes], opened.page.api_prompt()

    with_it = saved_and_sent()
    page, scripts = opened.page, re.compile(r"/extensions/comfyui-head-forcing/")
    page.tab.route(scripts, lambda route: route.abort())
    try:
        page.tab.reload()
        page.wait_until_ready()
        page.tab.evaluate(
            """async (graph) => {
              await app.loadApiJson(graph, 'bare');
              const after = app.graph.getNodeById('5').widgets.find((each) => each.name === 'control_after_generate');
              after.value = 'fixed';
            }""",
            GRAPH,
        )
        page.settle()
        assert opened.panel.count() == 0
        assert saved_and_sent() == with_it
    finally:
        page.tab.unroute(scripts)
        page.tab.reload()
        page.wait_until_ready()
        page.console_errors.clear()  # of the scripts that were withheld


def test_the_box_is_closed_until_a_run_begins_and_again_when_it_was_not_used(opened: Opened) -> None:
    expect(opened.box).to_be_hidden()
    live = opened.panel.locator(".hf-live")
    high = live.bounding_box()
    opened.make_tiny(BRIEF / 2, seed=51)
    assert opened.page.queue(), opened.page.node_errors()
    expect(opened.box).to_be_visible(timeout=LONGEST_RUN * 1000)
    opened.page.wait_for_end(LONGEST_RUN)
    expect(opened.box).to_be_hidden()
    assert high and live.bounding_box()["height"] == pytest.approx(high["height"], abs=2)


def test_a_prompt_that_took_over_before_the_answer_was_here_is_told_so(opened: Opened) -> None:
    def answer_late(route: Route) -> None:
        answer = route.fetch()
        time.sleep(2)  # some chunks
        route.fulfill(response=answer)

    tab, address = opened.page.tab, "**/head_forcing/live_prompt"
    opened.make_tiny(LONG, seed=53)
    opened.show_live()
    opened.box.fill(RIVER)
    tab.route(address, answer_late)
    try:
        assert opened.page.queue(), opened.page.node_errors()
        tab.wait_for_function("() => !document.querySelector('.hf-live-copy').disabled", timeout=LONGEST_RUN * 1000)
        opened.send.click()
        expect(opened.told).to_have_text(re.compile(r"^Took over at 0:\d\d\.\d\d\.$"))
    finally:
        tab.unroute(address)
    opened.page.interrupt()


def test_a_prompt_sent_while_a_run_goes_on_is_in_its_report(opened: Opened) -> None:
    opened.make_tiny(BRIEF, seed=52)
    opened.show_live()
    expect(opened.send).to_be_disabled()  # nothing is typed
    expect(opened.copy).to_be_disabled()
    opened.box.fill(RIVER)
    assert opened.page.queue(), opened.page.node_errors()
    opened.page.tab.wait_for_function(
        "() => !document.querySelector('.hf-live-copy').disabled", timeout=LONGEST_RUN * 1000
    )
    opened.panel.get_by_label("Transition").select_option("cut")
    opened.send.click()
    expect(opened.told).to_have_text(re.compile(r"^T(akes|ook) over at 0:\d\d\.\d\d\.$"))
    opened.screenshot("live")
    second = float(re.search(r"0:(\d\d\.\d\d)", opened.told.inner_text())[1])
    expect(opened.told).to_have_text(f"Took over at 0:{second:05.2f}.")
    run = opened.page.wait_for_end(LONGEST_RUN)
    assert (run.outcome, run.error()) == ("success", "")
    report = opened.report(run)
    assert [(each["prompt"], each["transition"], each["live"]) for each in report["segments"]] == [
        (FOX, None, False),
        (RIVER, "cut", True),
    ]
    begins = chunk_start_second(report["segments"][1]["chunks"][0], 3, 16.0)
    assert second == pytest.approx(begins, abs=0.006)

    expect(opened.send).to_be_disabled()  # the run has ended
    assert opened.send.get_attribute("title") == "No run of this node is going, or its last chunk is being made."
    opened.page.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.copy.click()
    expect(opened.told).to_contain_text("Copied.")
    assert opened.page.tab.evaluate("() => navigator.clipboard.readText()") == report["schedule"]
    opened.screenshot("copied")


def test_where_the_page_may_not_copy_the_schedule_is_selected(opened: Opened) -> None:
    opened.make_tiny(1.5, seed=53)
    assert opened.page.queue(), opened.page.node_errors()
    run = opened.page.wait_for_end(LONGEST_RUN)
    opened.show_live()
    opened.page.tab.evaluate(
        "() => Object.defineProperty(navigator, 'clipboard', {configurable: true, value: undefined})"
    )
    opened.copy.click()
    selected = opened.page.tab.evaluate(
        "() => document.activeElement.value.slice(0, document.activeElement.selectionEnd)"
    )
    opened.page.tab.evaluate("() => delete navigator.clipboard")
    assert selected == opened.report(run)["schedule"] == f"[0s] {FOX}"
    opened.screenshot("selected")


def test_control_enter_sends_and_does_not_queue_the_workflow(opened: Opened) -> None:
    posted: list[str] = []

    def hear(request: Request) -> None:
        if request.method == "POST":
            posted.append(request.url.rpartition("/api")[2])

    opened.show_live()
    opened.box.fill(RIVER)
    opened.page.tab.on("request", hear)
    opened.box.press("Control+Enter")
    expect(opened.told).to_contain_text("No run of the Head-Forced Sampler '5' is going.")
    opened.page.settle()
    opened.page.tab.remove_listener("request", hear)
    assert posted == ["/head_forcing/live_prompt"]
    opened.screenshot("refused")
    opened.page.console_errors[:] = [line for line in opened.page.console_errors if REFUSED not in line]


def test_keys_typed_in_the_box_are_not_shortcuts(opened: Opened) -> None:
    opened.show_live()
    opened.box.click()
    before = opened.page.tab.evaluate(
        "() => app.graph.serialize().nodes.map((node) => [node.id, node.mode, node.flags])"
    )
    for key in ["q", "w", "r", "c", "b", "p", ".", "Delete", "Backspace", "Escape", "Space", "Control+a", "Control+b"]:
        opened.box.press(key)
    opened.box.press("x")
    assert opened.box.input_value() == "x"  # typed over what Control+a selected
    after = opened.page.tab.evaluate(
        "() => app.graph.serialize().nodes.map((node) => [node.id, node.mode, node.flags])"
    )
    assert after == before


def test_a_sampler_inside_a_subgraph_is_found(opened: Opened) -> None:
    opened.make_tiny(LONG, seed=54)
    opened.page.tab.evaluate(
        """() => {
          const { node } = app.graph.convertToSubgraph(new Set([app.graph.getNodeById('5')]));
          app.canvas.openSubgraph(node.subgraph, node);
          app.canvas.ds.scale = 0.9;
          app.canvas.ds.offset = [600, 130];
        }"""
    )
    opened.wait_for_cost("54 chunks")
    assert opened.page.queue(), opened.page.node_errors()
    expect(opened.box).to_be_visible(timeout=LONGEST_RUN * 1000)
    opened.box.fill(RIVER)
    opened.box.press("Control+Enter")
    expect(opened.told).to_contain_text("over at 0:")
    opened.page.interrupt()
    opened.page.tab.evaluate("() => app.canvas.setGraph(app.rootGraph)")


@pytest.mark.parametrize("palette", ["light", "dark"])
def test_it_is_drawn_in_the_colours_of_the_theme(opened: Opened, palette: str) -> None:
    try:
        opened.page.set_theme(palette)
        opened.show_live()
        opened.box.fill(RIVER)
        opened.load_width(130)
        opened.wait_for_cost("width is 130.")
        opened.send.click()
        expect(opened.told).to_contain_text("No run of")
        opened.screenshot(palette)
        contrasts = opened.page.contrasts(".hf-cost-sentence, .hf-live-title, .hf-live-told")
        assert len(contrasts) == 3 and min(contrasts.values()) >= AA, contrasts
        assert opened.colour(opened.told) != opened.colour(opened.panel.locator("summary"))
        opened.page.console_errors[:] = [line for line in opened.page.console_errors if REFUSED not in line]
        assert opened.colour(opened.box) == opened.theme("--input-text")
    finally:
        opened.page.set_theme("dark")


def test_a_warning_stays_on_the_node_until_it_runs_again(opened: Opened) -> None:
    page, warning = opened.page, "The video stopped after 3 of 16 pictures."
    shown = page.tab.locator(".hf-warning-text")
    opened.make_tiny(0.5, 71)
    opened.say("head_forcing.warning", prompt_id=run(opened), text=warning)
    expect(shown).to_have_text(warning)
    assert opened.colour(shown) not in (opened.theme("--input-text"), opened.theme("--descrip-text"))
    opened.screenshot("warning")
    saved = page.tab.evaluate("() => app.graph.serialize().nodes.find((node) => node.id === 5).widgets_values")
    assert len(saved) == 11  # those of the schema alone
    run(opened)  # nothing has changed, so the host takes the node from its cache
    expect(shown).to_have_text(warning)
    page.set_widget(SAMPLER, "seed", 73)
    run(opened)
    expect(shown).to_have_count(0)


def test_the_box_opens_for_every_round_of_a_loop(opened: Opened) -> None:
    opened.make_tiny(0.5, 74)
    prompt = run(opened)
    for is_open in (True, False, True, False):
        opened.say("head_forcing.scenes", prompt_id=prompt, open=is_open, chunk=0, failed=False, schedule=FOX)
        expect(opened.panel.locator(".hf-live[open]")).to_have_count(int(is_open))


def test_a_prompt_is_sent_to_the_second_scene_of_a_loop(opened: Opened) -> None:
    """The box, which nobody used in the first one, opens again for it."""
    loop = {"body": "5", "times": 2, "seed": 81, "seed_step": 0, "prompts": f"{FOX}\n{CITY}", "again": 0}
    report = {"class_type": "PreviewAny", "inputs": {"source": ["7", 0]}}
    load(opened, {"6": report, "7": {"class_type": "HeadForcingTestLoop", "inputs": loop}})
    tab = opened.page.tab
    tab.evaluate(
        """() => {
          window.openings = 0; // of rounds: a round tells again that it is open
          let wasOpen = false;
          app.api.addEventListener('head_forcing.scenes', ({ detail }) => {
            window.openings += Number(detail.open && !wasOpen);
            wasOpen = detail.open;
          });
        }"""
    )
    opened.make_tiny(BRIEF / 2, 81)
    opened.page.set_widget(SAMPLER, "noise", "whole_video")
    assert opened.page.queue(), opened.page.node_errors()
    for number in (1, 2):
        tab.wait_for_function("(number) => window.openings === number", arg=number, timeout=LONGEST_RUN * 1000)
        expect(opened.box).to_be_visible()
    opened.box.fill(RIVER)
    opened.send.click()
    expect(opened.told).to_have_text(re.compile(r"^T(akes|ook) over at 0:\d\d\.\d\d\.$"))
    opened.screenshot("loop")
    run = opened.page.wait_for_end(LONGEST_RUN)
    assert (run.outcome, run.error()) == ("success", "")
    made = opened.report(run)
    assert [(each["prompt"], each["live"]) for each in made["segments"]] == [(CITY, False), (RIVER, True)]
    assert (made["settings"]["noise"], made["settings"]["prefix_frames"]) == ("whole_video", 27)


def run(opened: Opened) -> str:
    """Run the graph; the id of its prompt."""
    assert opened.page.queue(), opened.page.node_errors()
    finished = opened.page.wait_for_end(LONGEST_RUN)
    assert finished.outcome == "success", finished.error()
    (start,) = finished.details("execution_start")
    return str(start["prompt_id"])
