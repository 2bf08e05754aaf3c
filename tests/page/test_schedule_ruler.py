"""The ruler under the text of Prompt Schedule, with classic nodes and with Vue nodes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import pytest
from playwright.sync_api import Locator

from headforcing_core.farm.process import Server
from headforcing_core.geometry import chunk_start_second, nearest_chunk
from headforcing_core.rollout.transitions import TRANSITIONS
from headforcing_core.schedule.reading import parse_schedule
from tests.conftest import REPOSITORY
from tests.page.page import ComfyPage, Json

WORKFLOW = REPOSITORY / "workflows" / "first_minute.json"
SCHEDULE, SAMPLER, LOADER = "HeadForcingPromptSchedule", "HeadForcingSampler", "HeadForcingLoadARModel"
SCRIPT = "/extensions/comfyui-head-forcing/js/schedule_edit.js"
CHECKPOINT = "self_forcing_dmd.pt"
TEXT = """[0s] a red fox in deep snow, golden light between bare birches, the camera gliding beside it
[6s soft] the fox finds a frozen river
[12s] the ice cracks under its paws
[15s cut] a city at night, rain"""
GRAPH = {
    "1": {"class_type": LOADER, "inputs": {"model_name": CHECKPOINT, "family": "auto", "chunk_frames": 0}},
    "2": {"class_type": SCHEDULE, "inputs": {"text": TEXT, "transition": "recache"}},
    "3": {"class_type": SAMPLER, "inputs": {"model": ["1", 0], "schedule": ["2", 0], "seconds": 20.0, "fps": 16.0}},
}
RULER_PIXELS = 88
FOX, RIVER = "a red fox in snow", "a frozen river"
LONGEST_RUN = 120.0  # seconds
IN_CLASSIC, IN_VUE = (  # what does not hang on how nodes are drawn
    pytest.mark.parametrize("rendered", [renderer], indirect=True) for renderer in ("classic", "vue")
)


@dataclass(frozen=True)
class Bar:
    """A scene as it is drawn: the left and right end as a share of the axis, and what it says."""

    left: float
    right: float
    label: str
    title: str
    is_late: bool


@dataclass(frozen=True)
class Ruler:
    """A page with one schedule."""

    page: ComfyPage

    @property
    def element(self) -> Locator:
        return self.page.tab.locator(".hf-ruler")

    @property
    def box(self) -> Locator:
        """The text box of the schedule."""
        return self.page.tab.locator(":is(.dom-widget, [data-node-id]) textarea:visible")

    def wait_for(self, status: str) -> None:
        """Wait until the small print, or the error, holds these words."""
        self.element.get_by_role("status").filter(has_text=status).wait_for(timeout=10_000)

    def bars(self) -> list[Bar]:
        """The scenes, in order."""
        return [self._bar(item) for item in self.element.get_by_role("listitem").all()]

    def _bar(self, item: Locator) -> Bar:
        left, width = item.evaluate("(item) => [parseFloat(item.style.left), parseFloat(item.style.width)]")
        button = item.get_by_role("button")
        label, title = button.get_attribute("aria-label"), button.get_attribute("title")
        assert label and title
        late = item.evaluate("(item) => item.classList.contains('hf-ruler-late')")
        return Bar(left / 100, (left + width) / 100, label, title, late)

    def edge(self, scene: int) -> Locator:
        """Where a scene begins, the first being 1; it can be dragged."""
        return self.element.get_by_role("slider", name=f"Start of scene {scene}", exact=True)

    def text(self) -> str:
        """The text that the schedule has."""
        return self.page.tab.evaluate("() => app.graph.getNodeById('2').widgets.find((w) => w.name === 'text').value")

    def wait_for_text(self, text: str) -> None:
        """Wait until the schedule has a text, and shows it."""
        find = "app.graph.getNodeById('2')?.widgets.find((w) => w.name === 'text').value"
        self.page.tab.wait_for_function(f"(text) => {find} === text", arg=text, timeout=10_000)
        self.page.tab.wait_for_function(
            "(text) => [...document.querySelectorAll('textarea')].some((box) => box.value === text)",
            arg=text,
            timeout=10_000,
        )

    def drag(self, edge: Locator, second: float, length: float = 20) -> None:
        """Drag an edge to a second of an axis, and stop before it is let go."""
        mouse, start = self.page.tab.mouse, edge.bounding_box()
        bars = self.element.get_by_role("list").bounding_box()
        assert start and bars
        y = start["y"] + start["height"] / 2
        mouse.move(start["x"] + start["width"] / 2, y)
        mouse.down()
        mouse.move(bars["x"] + bars["width"] * second / length, y, steps=5)

    def menu(self, scene: int) -> Locator:
        """Open the menu of a scene in its middle."""
        self.element.get_by_role("listitem").nth(scene - 1).click(button="right")
        return self.page.tab.get_by_role("dialog", name=f"Scene {scene}", exact=True)

    def edited(self, edit: str) -> str:
        """Have a script edit the schedule, the sampler's; the new text, or why there is none."""
        return self.page.tab.evaluate(
            f"""async () => {{
              const {{ editSchedule, scheduleNodeOf }} = await import('{SCRIPT}');
              const schedule = scheduleNodeOf(app.graph.getNodeById('3')) ?? app.graph.getNodeById('2');
              return editSchedule(schedule, {edit}).catch((error) => error.message);
            }}"""
        )

    def selected(self) -> Json:
        """What has the focus, and where the cursor is in it."""
        return self.page.tab.evaluate("() => [document.activeElement.tagName, document.activeElement.selectionStart]")

    def marked_line(self) -> int:
        """The line of the text box that is tinted, counted from 1 in a text without wrapping; 0 for none."""
        return self.box.evaluate(
            """(box) => {
              const places = box.style.backgroundPosition.split(',')[0].split(' ').map(parseFloat);
              const height = parseFloat((box.style.backgroundSize.split(',')[0] ?? '').split(' ')[1]);
              if (!height) return 0;
              const line = (places[1] - parseFloat(getComputedStyle(box).paddingTop)) / height + 1;
              return Math.abs(line - Math.round(line)) < 0.05 ? Math.round(line) : -1;
            }"""
        )

    def screenshot(self, name: str) -> None:
        """Keep a picture of the schedule's node."""
        self.page.keep_screenshot(f"ruler_{name}")


@pytest.fixture
def ruler(rendered: ComfyPage) -> Iterator[Ruler]:
    """A loader, a schedule and a sampler of 20 s, linked. Nothing may fail, or reach beyond this machine."""
    rendered.console_errors.clear()
    rendered.load_api_workflow(GRAPH, "ruler")
    rendered.tab.evaluate(
        """() => {
          const [loader, schedule, sampler] = ['1', '2', '3'].map((id) => app.graph.getNodeById(id));
          schedule.setSize([460, 380]);
          [loader.pos, schedule.pos, sampler.pos] = [[-400, 0], [0, 0], [560, 0]];
          app.canvas.ds.scale = 1.3;
          app.canvas.ds.offset = [340, 140];
          app.canvas.setDirty(true, true);
        }"""
    )
    ruler = Ruler(rendered)
    ruler.wait_for("chunks of 3 frames at 16 fps, 20 s")
    assert ruler.marked_line() == 0
    yield ruler
    assert (rendered.console_errors, rendered.blocked) == ([], [])


def starts(text: str, chunk_frames: int = 3, fps: float = 16.0) -> list[float]:
    """Where the scenes of a text begin."""
    chunks = [nearest_chunk(scene.start_second, chunk_frames, fps) for scene in parse_schedule(text, TRANSITIONS)]
    return [chunk_start_second(chunk, chunk_frames, fps) for chunk in chunks]


def test_bars_begin_where_the_scenes_do(ruler: Ruler) -> None:
    bars, wanted = ruler.bars(), starts(TEXT)
    assert [bar.left for bar in bars] == pytest.approx([start / 20 for start in wanted], abs=1e-4)
    assert [bar.right for bar in bars] == pytest.approx([start / 20 for start in [*wanted[1:], 20]], abs=1e-4)
    assert wanted == [0.0, 5.8125, 11.8125, 14.8125]
    ruler.screenshot("scenes")
    assert bars[0].title == "0 s, chunk 0\n" + parse_schedule(TEXT, TRANSITIONS)[0].prompt
    assert bars[1].title == "5.81 s (asked: 6 s), chunk 8, soft\nthe fox finds a frozen river"
    assert [bar.label for bar in bars[2:]] == [
        "Line 3, 11.81 s (asked: 12 s), chunk 16, recache: the ice cracks under its paws",
        "Line 4, 14.81 s (asked: 15 s), chunk 20, cut: a city at night, rain",
    ]
    ruler.box.click()
    ruler.page.tab.keyboard.press("Control+End")
    ruler.page.tab.keyboard.type("\n[18s soft 6] morning")
    told = "Line 5, 17.81 s (asked: 18 s), chunk 24, soft over 6 chunks: morning"
    ruler.element.get_by_role("button", name=told).wait_for()


def test_an_error_is_marked_at_its_line_and_goes_when_it_is_mended(ruler: Ruler) -> None:
    text = "/* my\nfilm */\n[0s] a red fox\n[6s soft] a river\n[soon] a city\n[15s] rain"
    with pytest.raises(ValueError) as error:
        parse_schedule(text, TRANSITIONS)
    ruler.box.fill(text)
    ruler.wait_for(str(error.value))
    assert (ruler.marked_line(), ruler.bars()) == (5, [])
    ruler.screenshot("error")
    ruler.box.fill(text.replace("soon", "12s"))
    ruler.wait_for("chunks of 3 frames")
    assert (ruler.marked_line(), len(ruler.bars())) == (0, 4)


def test_a_click_puts_the_cursor_into_the_line_of_a_scene_or_of_an_error(ruler: Ruler) -> None:
    """Lines are counted as the server counts them; the mark stands below those that wrap."""
    ruler.element.get_by_role("listitem").nth(2).click()
    assert ruler.selected() == ["TEXTAREA", TEXT.index("[12s]")]
    text = "[0s] a\u2028b " + "a red fox " * 20 + "\n[soon] c"
    ruler.box.fill(text)
    ruler.wait_for("Schedule line 3")
    assert ruler.marked_line() > 3
    ruler.element.get_by_role("status").click()
    assert ruler.selected() == ["TEXTAREA", text.index("[soon]")]


@IN_CLASSIC
def test_it_reads_the_text_again_when_the_server_is_back(ruler: Ruler) -> None:
    ruler.box.fill("\u5915" * 22_000)  # three bytes each
    ruler.wait_for("The text has more than 64 KB")
    question = "**/head_forcing/schedule"
    ruler.page.tab.route(question, lambda route: route.abort())
    ruler.box.fill(FOX)
    ruler.wait_for("ComfyUI does not answer.")
    ruler.page.tab.unroute(question)
    ruler.page.tab.evaluate("() => app.api.dispatchEvent(new CustomEvent('reconnected'))")
    ruler.wait_for("chunks of 3 frames")
    assert all("ERR_FAILED" in line for line in ruler.page.console_errors)
    ruler.page.console_errors.clear()


@IN_CLASSIC
def test_it_follows_the_widgets_of_sampler_loader_and_schedule(ruler: Ruler) -> None:
    ruler.page.set_widget(SCHEDULE, "transition", "flush")
    ruler.page.set_widget(SAMPLER, "seconds", 13.0)
    ruler.wait_for("13 s; 1 after the end")
    assert [bar.is_late for bar in ruler.bars()] == [False, False, False, True]
    assert "chunk 16, flush" in ruler.bars()[2].label
    ruler.screenshot("late")
    ruler.page.set_widget(LOADER, "family", "causal_forcing_framewise")
    ruler.page.set_widget(SAMPLER, "fps", 24.0)
    ruler.page.set_widget(SAMPLER, "seconds", 40.0)
    ruler.wait_for("chunks of 1 frame at 24 fps, 40 s")
    assert [bar.left for bar in ruler.bars()] == pytest.approx([s / 40 for s in starts(TEXT, 1, 24.0)], abs=1e-4)
    ruler.page.tab.evaluate("() => app.graph.remove(app.graph.getNodeById('3'))")
    ruler.wait_for("chunks of 3 frames at 16 fps (assumed); link a Head-Forced Sampler")
    assert not any(bar.is_late for bar in ruler.bars())


@IN_CLASSIC
def test_sampler_and_loader_are_found_through_other_nodes_and_subgraphs(ruler: Ruler) -> None:
    ruler.page.set_widget(LOADER, "chunk_frames", 2)
    ruler.page.tab.evaluate(
        """() => {
          const [loader, schedule, sampler] = ['1', '2', '3'].map((id) => app.graph.getNodeById(id));
          const [lora, reroute] = ['LoraLoaderModelOnly', 'Reroute'].map((type) => LiteGraph.createNode(type));
          for (const node of [lora, reroute]) app.graph.add(node);
          loader.connect(0, lora, 0);
          lora.connect(0, sampler, 0);
          schedule.connect(0, reroute, 0);
          reroute.connect(0, sampler, 'schedule');
          app.graph.convertToSubgraph(new Set([sampler]));
          app.graph.convertToSubgraph(new Set([loader]));
        }"""
    )
    ruler.wait_for("chunks of 2 frames at 16 fps, 20 s")
    ruler.page.settle()
    ruler.wait_for("chunks of 2 frames at 16 fps, 20 s")


@IN_CLASSIC
def test_a_schedule_inside_a_subgraph_finds_the_sampler_outside(ruler: Ruler) -> None:
    ruler.page.set_widget(SAMPLER, "seconds", 30.0)
    ruler.page.tab.evaluate(
        """() => {
          const { node, subgraph } = app.graph.convertToSubgraph(new Set([app.graph.getNodeById('2')]));
          app.canvas.openSubgraph(subgraph, node);
        }"""
    )
    try:
        ruler.wait_for("chunks of 3 frames at 16 fps, 30 s")
    finally:
        ruler.page.tab.evaluate("() => app.canvas.setGraph(app.rootGraph)")


def test_a_graph_loaded_anew_shows_its_own_text_as_after_an_undo(ruler: Ruler) -> None:
    ruler.box.fill("[0s] a\n[soon] b")
    ruler.wait_for("Schedule line 2")
    ruler.page.load_api_workflow(GRAPH, "ruler")
    ruler.wait_for("chunks of 3 frames at 16 fps, 20 s")
    assert (ruler.element.count(), ruler.marked_line(), len(ruler.bars())) == (1, 0, 4)


@IN_CLASSIC
def test_a_text_of_another_node_is_shown_and_cannot_be_edited_here(ruler: Ruler) -> None:
    def link(node: str, value: str) -> None:
        ruler.page.tab.evaluate(
            """([type, value]) => {
              const [text, schedule] = [LiteGraph.createNode(type), app.graph.getNodeById('2')];
              app.graph.add(text);
              text.pos = [0, 450];
              text.widgets[0].value = value;
              text.connect(0, schedule, schedule.inputs.findIndex((input) => input.name === 'text'));
            }""",
            [node, value],
        )

    link("PrimitiveStringMultiline", "[0s] a {red|blue} fox // x\n[9s] the same at night")
    ruler.wait_for("The scene at 0 s: '{red|blue}' is read as it stands.")
    ruler.element.get_by_role("button", name="chunk 0: a {red|blue} fox").wait_for()
    assert ruler.element.get_by_role("slider").count() == 0
    assert ruler.edited("{ kind: 'delete', line: 2 }") == "The text comes from another node. Change it there."
    link("StringConcatenate", "")  # known only to a run
    ruler.wait_for("The text comes from another node.")


def sent_text(ruler: Ruler) -> str:
    """The text that the page sends for the schedule."""
    return cast(dict, ruler.page.api_prompt())["2"]["inputs"]["text"]


def test_choices_and_comments_are_drawn_as_in_the_hosts_prompt_box(ruler: Ruler) -> None:
    ruler.box.fill("// my film\n[0s] a {red|blue|{white|grey}} fox /* no\nriver */\n[6s cut] \\{red|blue\\}")
    ruler.wait_for("{red|blue|{white|grey}} is drawn when you press Run. chunks of 3 frames")
    assert [bar.label for bar in ruler.bars()] == [
        "Line 2, 0 s, chunk 0: a {red|blue|{white|grey}} fox",
        "Line 4, 5.81 s (asked: 6 s), chunk 8, cut: {red|blue}",
    ]
    sent = {sent_text(ruler) for _ in range(60)}
    colours = ("red", "blue", "white", "grey")
    assert sent == {f"\n[0s] a {colour} fox \n[6s cut] {{red|blue}}" for colour in colours}
    ruler.screenshot("choices")
    ruler.box.fill("[0s] a fox\n[{5|8}s] a river")
    ruler.wait_for("Drawn when you press Run: {5|8} decides about times.")
    assert (ruler.bars(), ruler.marked_line()) == ([], 0)
    assert sent_text(ruler) in {f"[0s] a fox\n[{second}s] a river" for second in (5, 8)}


@IN_CLASSIC
def test_what_does_nothing_in_a_text_is_told_under_it_in_either_theme(ruler: Ruler) -> None:
    ruler.box.fill("\n".join(f"[{3 * n}s] a fox <lora:fox:{n}>" for n in range(6)))
    ruler.wait_for("The scene at 0 s: '<lora:fox:0>' loads nothing and is read as words.")
    assert len(ruler.bars()) == 6
    assert ruler.element.evaluate("(element) => element.offsetHeight") == RULER_PIXELS
    ruler.screenshot("habits")
    dark = ruler.element.evaluate("(element) => getComputedStyle(element).backgroundColor")
    try:
        ruler.page.set_theme("light")
        ruler.screenshot("light")
        assert ruler.element.evaluate("(element) => getComputedStyle(element).backgroundColor") != dark
    finally:
        ruler.page.set_theme("dark")
    ruler.box.fill(TEXT)
    ruler.page.tab.locator(".hf-ruler:not(.hf-ruler-habits)").wait_for(timeout=10_000)


@IN_VUE
def test_nothing_of_it_is_saved_or_sent(ruler: Ruler, comfyui: Server) -> None:
    """The page with our scripts and the page without them save and send the same."""
    shipped = cast(dict[str, Json], json.loads(WORKFLOW.read_text(encoding="utf-8")))
    with_scripts = saved_and_sent(ruler.page, shipped)
    for shown, node in zip(cast(list, with_scripts[0]), cast(list, shipped["nodes"]), strict=True):
        kept = node.get("widgets_values") or []
        assert shown[: len(kept)] == kept  # a stock node of a newer host may have more
    tab = ruler.page.tab.context.new_page()
    tab.route("**/extensions/*head-forcing/**", lambda route: route.abort())
    try:
        tab.goto(comfyui.url)
        bare = ComfyPage(tab, ruler.page.renderer)
        bare.wait_until_ready()
        without_scripts = saved_and_sent(bare, shipped)
        assert tab.locator(".hf-ruler").count() == 0
    finally:
        tab.close()
    assert json.dumps(with_scripts) == json.dumps(without_scripts)


def saved_and_sent(page: ComfyPage, workflow: Json) -> tuple[Json, Json]:
    """The values that the page saves with a workflow, and what it sends to the host."""
    page.load_workflow(workflow)
    saved = page.tab.evaluate("() => app.graph.serialize().nodes.map((node) => node.widgets_values ?? [])")
    return saved, page.api_prompt()


def test_an_edge_is_dragged_to_the_start_of_a_chunk_and_the_text_follows(ruler: Ruler) -> None:
    edge = ruler.edge(3)
    ruler.drag(edge, 10.0)
    assert edge.get_attribute("aria-valuetext") == "10.31 s, chunk 14"
    assert (ruler.text(), ruler.bars()[2].left) == (TEXT, pytest.approx(10.3125 / 20, abs=1e-4))
    ruler.screenshot("dragged")
    ruler.page.tab.mouse.up()
    moved = TEXT.replace("12s", "10.312s")
    ruler.wait_for_text(moved)
    ruler.wait_for("chunks of 3 frames")
    assert [bar.left for bar in ruler.bars()] == pytest.approx([start / 20 for start in starts(moved)], abs=1e-4)
    assert sent_text(ruler) == moved
    ruler.box.focus()
    ruler.page.tab.keyboard.press("Control+z")
    ruler.wait_for_text(TEXT)
    assert ruler.text() == TEXT
    if ruler.page.renderer == "classic":  # one run is enough
        ruler.box.fill(f"[0s] {FOX}\n[1.3s] {RIVER}")
        ruler.page.set_widget(SAMPLER, "seconds", 1.9)
        ruler.wait_for("1.9 s")
        ruler.drag(ruler.edge(2), 0.6, 1.9)
        ruler.page.tab.mouse.up()
        ruler.wait_for_text(f"[0s] {FOX}\n[0.562s] {RIVER}")
        assert made(ruler.page) == [(FOX, 0), (RIVER, 1)]


def made(page: ComfyPage) -> list[tuple[str, int]]:
    """Run the sampler on the smallest model; the scenes of the video, and the chunk on which each begins."""
    page.tab.evaluate(
        """() => {
          const nodes = { clip: 'HeadForcingTestLoadUMT5', policy: 'HeadForcingCachePolicy', shown: 'PreviewAny' };
          for (const name in nodes) app.graph.add(nodes[name] = LiteGraph.createNode(nodes[name]));
          for (const node of Object.values(nodes)) node.pos = [0, 2000];
          const [schedule, sampler] = ['2', '3'].map((id) => app.graph.getNodeById(id));
          const set = (node, values) => node.widgets.forEach((each) => (each.value = values[each.name] ?? each.value));
          set(nodes.clip, { clip_name: 'tiny_umt5.safetensors' });
          set(nodes.policy, { preset: 'uniform' });
          set(sampler, { width: 128, height: 96 });
          nodes.clip.connect(0, schedule, 'clip');
          nodes.policy.connect(0, sampler, 'policy');
          sampler.connect(3, nodes.shown, 0);
        }"""
    )
    assert page.queue(), page.node_errors()
    run = page.wait_for_end(LONGEST_RUN)
    assert (run.outcome, run.error()) == ("success", "")
    (shown,) = run.outputs().values()
    segments = json.loads(cast(dict, shown)["text"][0])["segments"]
    return [(segment["prompt"], segment["chunks"][0]) for segment in segments]


def test_keys_move_an_edge_and_the_graphs_own_undo_brings_it_back(ruler: Ruler) -> None:
    edge, keyboard = ruler.edge(2), ruler.page.tab.keyboard
    edge.focus()
    keyboard.press("ArrowRight")
    ruler.wait_for_text(TEXT.replace("6s", "6.562s"))
    keyboard.press("Shift+ArrowRight")  # ten, but for the neighbour
    ruler.wait_for_text(TEXT.replace("6s", "11.062s"))
    keyboard.press("Shift+ArrowLeft")
    ruler.wait_for_text(TEXT.replace("6s", "3.562s"))
    ruler.element.get_by_role("button", name="Line 2, 3.56 s, chunk 5").wait_for()
    assert edge.evaluate("(edge) => edge === document.activeElement")
    ruler.page.tab.evaluate("() => document.addEventListener('input', () => (window.hfTyped = true), true)")
    for key, second, shown in [
        ("z", "11.062", "11.06"),
        ("z", "6.562", "6.56"),
        ("z", "6", "5.81"),
        ("y", "6.562", "6.56"),
    ]:
        keyboard.press(f"Control+{key}")
        ruler.wait_for_text(TEXT.replace("6s", f"{second}s"))
        ruler.element.get_by_role("button", name=f"Line 2, {shown} s").wait_for()  # the page takes one step at a time
        ruler.edge(2).focus()
    assert not ruler.page.tab.evaluate("() => window.hfTyped")  # by the browser's own undo, which would be one too many
    for _ in range(4):  # faster than the ruler is drawn anew
        keyboard.press("ArrowLeft")
    ruler.wait_for_text(TEXT.replace("6s", "3.562s"))
    ruler.edge(2).focus()
    keyboard.down("ArrowRight")
    keyboard.press("Delete")
    keyboard.up("ArrowRight")
    left = TEXT.replace("[6s soft] the fox finds a frozen river\n", "")
    ruler.wait_for_text(left)
    ruler.element.get_by_role("button", name="Line 3, 14.81 s").wait_for()
    ruler.edge(3).press("Shift+ArrowRight")  # the last chunk, not the tenth from here
    ruler.wait_for_text(left.replace("15s", "19.312s"))


@IN_CLASSIC
def test_the_menu_of_a_scene_adds_cuts_deletes_and_gives_a_transition(ruler: Ruler) -> None:
    menu = ruler.menu(2)
    assert menu.get_by_role("button", name="soft", pressed=True).count() == 1
    assert menu.get_by_text("A slow change, over some chunks. Nothing is forgotten.").is_visible()
    titles = menu.get_by_role("group").get_by_role("button").evaluate_all("(all) => all.map(({ title }) => title)")
    assert [title.split()[:2] for title in titles] == [
        ["The", "same"],
        ["The", "new"],
        ["A", "slow"],
        ["A", "hard"],
        ["A", "new"],
    ]
    ruler.screenshot("menu")
    menu.get_by_role("spinbutton").fill("3")
    ruler.page.tab.keyboard.press("Escape")
    assert menu.count() == 0
    ruler.menu(2).get_by_role("spinbutton").fill("6")
    ruler.page.tab.keyboard.press("Enter")
    ruler.wait_for_text(TEXT.replace("soft", "soft 6"))
    ruler.element.get_by_role("button", name="soft over 6 chunks").wait_for()
    ruler.menu(2)
    menu.get_by_role("button", name="cut").click()
    text = TEXT.replace("6s soft", "6s cut")
    ruler.wait_for_text(text)
    ruler.element.get_by_role("button", name="chunk 8, cut").wait_for()
    ruler.menu(3).get_by_role("textbox").fill("a {red|blue} sky")
    ruler.page.tab.keyboard.press("Control+Enter")
    text = text.replace("\n[15s", "\n[13.312s] a {red|blue} sky\n[15s")
    ruler.wait_for_text(text)
    ruler.element.get_by_role("listitem").nth(4).wait_for()
    ruler.menu(1).get_by_role("button", name="Split here").click()
    first = TEXT.splitlines()[0]
    text = text.replace("\n[6s", f"\n[2.812s] {first.removeprefix('[0s] ')}\n[6s")
    ruler.wait_for_text(text)
    ruler.element.get_by_role("listitem").nth(5).wait_for()
    ruler.edge(5).press("Enter")
    ruler.page.tab.get_by_role("dialog", name="Scene 5").get_by_role("button", name="Delete scene").click()
    ruler.wait_for_text(text.replace("[13.312s] a {red|blue} sky\n", ""))


@IN_CLASSIC
def test_a_script_edits_a_text_too(ruler: Ruler) -> None:
    """As another panel asks for it: nothing has the focus then or later, and the text box may be hidden."""
    menu, edit = ruler.menu(2), "{ kind: 'move', line: 3, second: 9 }"
    ruler.page.tab.evaluate("() => document.activeElement.blur()")
    assert (
        ruler.edited(f"{edit}, {{ shownText: '[0s] a scene less' }}")
        == "The text was changed in the meantime. Try again."
    )
    assert ruler.edited(edit) == ruler.text() == TEXT.replace("12s", "8.812s")
    assert ruler.selected()[0] == "BODY"
    assert menu.count() == 1
    ruler.page.tab.evaluate("() => app.graph.getNodeById('2').collapse()")
    ruler.page.settle()
    ruler.edited("{ kind: 'scene_at', second: 15, prompt: 'a harbour' }")
    assert ruler.text() == TEXT.replace("12s", "8.812s").replace("a city at night, rain", "a harbour")
    ruler.page.tab.evaluate("() => app.extensionManager.workflow.activeWorkflow.changeTracker.undo()")
    assert ruler.text() == TEXT.replace("12s", "8.812s")
    assert menu.count() == 0  # that of a node which is no longer there


PASTED = {
    f"1\n00:00:00,000 --> 00:00:05,000\n{FOX}\n\n2\n00:00:05,000 --> 00:00:10,000\n{RIVER}": 5,
    f'[\n  {{"time": "0:00", "prompt": "{FOX}"}},\n  {{"time": "0:12", "prompt": "{RIVER}"}}\n]': 12,
    f'{{"0": "{FOX}",\n"48": "{RIVER}"}}': 3,
}


def test_what_is_pasted_in_another_syntax_is_converted(ruler: Ruler) -> None:
    convert = ruler.element.get_by_role("button", name="Convert")
    for text, second in PASTED.items():
        ruler.box.fill(text)
        convert.click()
        ruler.wait_for_text(f"[0s] {FOX}\n[{second}s] {RIVER}")
    ruler.box.fill("0s: a fox\n5s: a river")
    convert.wait_for()
    ruler.screenshot("convert")
    ruler.box.fill("[0s] a\n[soon] b")
    ruler.wait_for("Schedule line 2")
    assert not convert.is_visible()
