"""A film made again from a chunk of its strip, its takes side by side, one chosen; with classic nodes and with Vue
nodes."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from headforcing_core.farm.process import Server
from headforcing_core.rollout.plan import Segment
from tests.page.kept_film import HASH, write_kept_film
from tests.page.page import ComfyPage, Json, Run
from tests.page.test_film_strip import GRAPH, IN_CLASSIC, IN_VUE, PLACES

SAMPLER, SCHEDULE = "5", "3"
FOX, RIVER = "a red fox in deep snow", "the fox finds a frozen river"
FIRST, SECONDS, CHUNKS = 2, 1.9, 3
LONGEST_RUN = 180.0
SEED, LIVE = 77, 4
LONG_SEED = 2**62 + 12345  # no number of JavaScript
VIDEOS = "() => [...document.querySelectorAll('.hf-dialog video')]"
LINKED = """
  const source = LiteGraph.createNode('{}');
  app.graph.add(source);
  source.connect(0, sampler, sampler.inputs.findIndex((each) => each.widget?.name === '{}'));
"""
ANOTHER_FIRST = """(text) => {
  const [schedule, sampler] = ['3', '5'].map((id) => app.graph.getNodeById(id));
  const another = LiteGraph.createNode('HeadForcingSampler');
  app.graph.add(another);
  another.widgets.find((each) => each.name === 'fps').value = 8;
  schedule.widgets.find((each) => each.name === 'text').value = text;
  const slot = sampler.findInputSlot('schedule');
  sampler.disconnectInput(slot);
  schedule.connect(0, another, slot);
  schedule.connect(0, sampler, slot);
  sampler.connect(0, another, another.findInputSlot('previous'));
}"""
NAMES_OF_SCENES = """async () => {
  const there = performance.getEntriesByType('resource').map((each) => each.name);
  const { keptNameOf } = await import(there.find((name) => name.endsWith('/scene_runs.js')));
  const sampler = app.graph.getNodeById('5');
  const another = app.graph.nodes.find((node) => node !== sampler && node.type === sampler.type);
  const nameOf = (node, id = node.id) => keptNameOf(node, `prompt/${id}`);
  for (const node of [sampler, another]) node.widgets.find((each) => each.name === 'run_name').value = 'film-%n%';
  const names = [nameOf(sampler), nameOf(another), nameOf(sampler, 'loop.0.0.1_5'), keptNameOf(sampler, null)];
  const between = LiteGraph.createNode('LatentUpscale');
  app.graph.add(between);
  sampler.connect(0, between, 0);
  between.connect(0, another, another.findInputSlot('previous'));
  names.push(nameOf(another));
  between.mode = 2;
  return [...names, nameOf(another)];
}"""
CANNOT_BE_SET = {
    LINKED.format("StringConcatenate", "run_name"): "run_name comes from another node, so it cannot be set here",
    LINKED.format("GetImageSize", "seed"): "seed comes from another node, so it cannot be set here",
    "sampler.widgets.find((each) => each.name === 'run_name').value = 'film %n%';": "such as film 2, into run_name",
    "sampler.widgets.find((each) => each.name === 'run_name').value = 'another';": "none of this name is",
}

expect.set_options(timeout=30_000)  # milliseconds; a busy machine is slow


@dataclass(frozen=True)
class Table:
    """A page with one sampler, whose run is kept under a name of its own."""

    page: ComfyPage
    name: str

    @property
    def strip(self) -> Locator:
        return self.page.tab.locator(".hf-strip")

    @property
    def menu(self) -> Locator:
        return self.page.tab.get_by_role("menu")

    @property
    def dialog(self) -> Locator:
        return self.page.tab.get_by_role("dialog").locator("visible=true").and_(self.page.tab.locator(".hf-dialog"))

    @property
    def takes(self) -> Locator:
        return self.page.tab.get_by_role("button", name=re.compile(r"^Takes \(\d+\)$"))

    def load(self, **widgets: Json) -> None:
        """Open the graph, the sampler in the middle; it draws a seed at each Run."""
        graph = json.loads(json.dumps(GRAPH))
        graph[SCHEDULE]["inputs"]["text"] = FOX
        graph[SAMPLER]["inputs"] |= {"seconds": SECONDS, "seed": 5, "run_name": "", "from_chunk": -1, **widgets}
        self.page.tab.evaluate(
            """async ({graph, places}) => {
              await app.loadApiJson(graph, 'takes');
              for (const [id, place] of Object.entries(places)) app.graph.getNodeById(id).pos = place;
              const sampler = app.graph.getNodeById('5');
              sampler.widgets.find((each) => each.name === 'control_after_generate').value = 'randomize';
              sampler.setSize([520, sampler.size[1]]);
              app.canvas.ds.scale = 0.9;
              app.canvas.ds.offset = [560, 80];
              app.canvas.setDirty(true, true);
            }""",
            {"graph": graph, "places": PLACES},
        )
        self.page.settle()

    def widgets(self, node: str = SAMPLER) -> Mapping[str, Json]:
        """The values of a node's widgets."""
        return self.page.tab.evaluate(
            "(id) => Object.fromEntries(app.graph.getNodeById(id).widgets.map((each) => [each.name, each.value]))", node
        )

    def open_menu(self, chunk: int) -> None:
        """Open the menu of a chunk by the keyboard."""
        cell = self.strip.locator(f'.hf-strip-cell[data-chunk="{chunk}"]')
        expect(cell.locator("img")).to_be_visible()
        self.strip.locator('.hf-strip-cell[tabindex="0"]').focus()
        for key in ("Home", *["ArrowRight"] * chunk, "Shift+F10"):
            self.page.tab.keyboard.press(key)
        expect(self.menu).to_be_visible()

    def listen(self) -> None:
        """Note from now on what happens to the next prompt, however it is queued."""
        assert self.page.tab.evaluate(
            """async () => {
              const queue = app.queuePrompt;
              app.queuePrompt = async () => true;
              await window.headForcingTest.queue();
              app.queuePrompt = queue;
              return true;
            }"""
        )

    def finish(self) -> Run:
        """Wait until what was queued is made."""
        run = self.page.wait_for_end(LONGEST_RUN)
        assert (run.outcome, run.error()) == ("success", "")
        return run

    def seeds(self, runs: Path, name: str) -> Json:
        """The seeds of a kept run."""
        return json.loads((runs / name / "run.json").read_bytes())["seeds"]


@pytest.fixture
def table(rendered: ComfyPage) -> Iterator[Table]:
    """A page in which nothing may fail, or reach beyond this machine."""
    rendered.console_errors.clear()
    yield Table(rendered, f"table {rendered.renderer} 1")
    assert (rendered.console_errors, rendered.blocked) == ([], [])


@pytest.fixture
def runs(comfyui: Server) -> Path:
    return comfyui.folder / "output" / "head_forcing"


def steps(run: Run) -> list[Json]:
    """How far the sampler said it was."""
    return [detail["value"] for detail in run.details("progress") if detail["node"] == SAMPLER]


def test_a_film_is_kept_made_again_with_another_prompt_compared_and_the_first_take_chosen(
    table: Table, runs: Path
) -> None:
    page, tab = table.page, table.page.tab
    table.load(run_name=f"table {page.renderer} %n%")
    assert page.queue(), page.node_errors()
    table.finish()
    expect(table.takes).to_be_hidden()
    kept_seed = 5  # the page has drawn another one since
    assert table.widgets()["seed"] != kept_seed

    # with another seed and another prompt
    table.open_menu(FIRST)
    table.menu.get_by_role("menuitem", name="Make again from here").press("Enter")
    seed, prompt = table.dialog.get_by_label("Seed"), table.dialog.get_by_label("Prompt")
    expect(prompt).to_have_value(FOX)
    assert int(seed.input_value()) != kept_seed
    told = f"Chunk {FIRST} is made anew; those before stay. The film as it is now is kept beside it as a take."
    expect(table.dialog).to_contain_text(told)
    expect(table.dialog).to_contain_text(f"the film has {kept_seed}")
    expect(table.dialog).not_to_contain_text("The scenes after this one")
    seed.fill(str(SEED))
    prompt.fill(RIVER)
    page.keep_screenshot("takes_form")
    table.listen()
    table.dialog.get_by_role("button", name="Make again").click()
    expect(table.dialog).to_have_count(0)
    made = table.finish()
    assert steps(made)[-1] == CHUNKS * 4
    told = table.widgets()
    assert (told["from_chunk"], told["seed"], told["control_after_generate"]) == (-1, SEED, "fixed")
    text = str(table.widgets(SCHEDULE)["text"])
    assert FOX in text and RIVER in text
    assert table.seeds(runs, table.name) == [[0, kept_seed], [FIRST, SEED]]
    assert table.seeds(runs, f"{table.name}_take_1") == [[0, kept_seed]]

    # the next Run makes nothing anew
    page.set_widget(SAMPLER, "fps", 16.0)
    assert page.queue() and steps(table.finish()) == []
    assert not (runs / f"{table.name}_take_2").exists()

    compare(table)
    table.dialog.get_by_role("button", name=f"Choose {table.name}_take_1").click()
    expect(table.dialog.get_by_role("status")).to_contain_text(
        "The take is the film now. Press Run to get its video; it takes seconds. Prompt Schedule has its prompts. The "
        f"film as it was is {table.name}_take_1: choose that to undo this."
    )
    expect(table.dialog.get_by_role("row").nth(2)).to_contain_text(f"{SEED} from chunk {FIRST}")
    tab.keyboard.press("Escape")
    expect(table.dialog).to_have_count(0)
    assert table.widgets()["seed"] == kept_seed and table.widgets(SCHEDULE)["text"] == f"[0s] {FOX}"
    assert table.seeds(runs, table.name) == [[0, kept_seed]]


@IN_CLASSIC
def test_a_film_that_was_not_kept_is_made_once_more_with_its_seed(table: Table, runs: Path) -> None:
    page, tab, name = table.page, table.page.tab, f"{table.name} first"
    table.load(seconds=0.5)
    assert page.queue(), page.node_errors()
    table.finish()
    assert table.widgets()["seed"] != 5
    table.open_menu(0)
    tab.keyboard.press("Enter")
    expect(table.dialog).to_contain_text("Only a film that is kept can be made again")
    table.dialog.get_by_label("run_name").fill(" ")
    tab.keyboard.press("Enter")
    expect(table.dialog).to_contain_text("run_name is empty, so the film would not be kept.")
    table.dialog.get_by_label("run_name").fill(name)
    table.listen()
    tab.keyboard.press("Enter")
    expect(table.dialog).to_have_count(0)
    table.finish()
    told = table.widgets()
    assert (told["run_name"], told["seed"], told["control_after_generate"]) == (name, 5, "fixed")
    assert table.seeds(runs, name) == [[0, 5]]


def compare(table: Table) -> None:
    """Open the list, and play the two takes in step."""
    page, tab = table.page, table.page.tab
    expect(table.takes).to_have_text("Takes (1)")
    table.takes.evaluate("(button) => { button.click(); button.click(); }")
    rows = table.dialog.get_by_role("row")
    expect(rows).to_have_count(3)  # of one list
    expect(rows.nth(2)).to_contain_text(f"chunk {FIRST} (0:01.31){FOX}")
    both = table.dialog.locator("video")
    expect(both).to_have_count(2)
    tab.wait_for_function(f"{VIDEOS}.every((each) => each.readyState >= 2 && !each.seeking)")
    times = "(all) => all.map((each) => each.currentTime)"
    begin = both.evaluate_all(times)
    assert begin == pytest.approx([21 / 16 - 1] * 2, abs=0.02)  # a second before they differ
    page.keep_screenshot("takes_compared")
    play = table.dialog.get_by_role("button", name="Play")
    expect(play).to_be_focused()
    tab.keyboard.press("Space")
    tab.wait_for_function(f"{VIDEOS}[0].currentTime > {begin[0] + 0.5}")
    one, other = both.evaluate_all(times)
    assert one == pytest.approx(other, abs=0.25)
    at_once = "(button) => { button.click(); return document.querySelector('.hf-players-bar').valueAsNumber; }"
    stopped = table.dialog.get_by_role("button", name="Pause").evaluate(at_once)
    assert both.evaluate_all(times) == pytest.approx([stopped] * 2, abs=0.001)  # not a frame of the page later
    tab.wait_for_function(f"{VIDEOS}.every((each) => !each.seeking)")
    one, other = both.evaluate_all(times)
    assert one == pytest.approx(other, abs=0.001)
    for _ in range(2):
        tab.keyboard.press("ArrowLeft")
    assert both.evaluate_all(times) == pytest.approx([one - 2 / 16] * 2, abs=0.001)
    tab.keyboard.press("x")
    expect(both.nth(1)).to_be_hidden()
    tab.keyboard.press("x")
    expect(both.nth(0)).to_be_hidden()
    views = table.dialog.locator(".hf-players-view")
    for number, seen in enumerate(([0], [1], [0, 1])):
        views.nth(number).click()
        for side, video in enumerate(both.all()):
            expect(video).to_be_visible(visible=side in seen)
        pressed = views.evaluate_all("(all) => all.map((each) => each.getAttribute('aria-pressed'))")
        assert pressed == [str(each == number).lower() for each in range(3)]
        assert len({box["width"] for view in views.all() if (box := view.bounding_box())}) == 1
        page.keep_screenshot(f"takes_seen_{number}")
        for side in seen:  # the whole picture
            player = table.dialog.locator(".hf-player").nth(side).bounding_box()
            assert both.nth(side).bounding_box() == player


@pytest.fixture
def kept(table: Table, runs: Path) -> Table:
    """A page with the sampler of a run of some chunks that is there already."""
    name = f"{table.name} kept"
    if not (runs / name).exists():
        live = Segment(LIVE, HASH, prompt=RIVER, live=True)
        for folder, seed in ((name, 1), (f"{name}_take_1", LONG_SEED)):
            write_kept_film(runs / folder, 8, (Segment(0, HASH, prompt=FOX), live), seed)
    table.load(run_name=name)
    return table


@IN_CLASSIC
def test_what_cannot_be_set_here_is_told(kept: Table) -> None:
    tab = kept.page.tab
    kept.takes.click()
    for side in range(2):
        expect(kept.dialog.locator(".hf-player").nth(side)).to_have_text(re.compile("^No video is kept of this take"))
    expect(kept.dialog.get_by_role("row").nth(2)).to_contain_text(str(LONG_SEED))
    kept.dialog.get_by_role("button", name=f"Choose {kept.name} kept_take_1").click()
    told = f"The take is the film now. Its seed is {LONG_SEED}: more digits than ComfyUI's page can hold."
    expect(kept.dialog.get_by_role("status")).to_contain_text(told)
    assert kept.widgets()["seed"] == 5
    tab.keyboard.press("Control+z")  # of the page: it puts other nodes into the place of these
    expect(kept.dialog).to_have_count(0)
    kept.open_menu(FIRST)
    tab.keyboard.press("Control+y")
    expect(kept.menu).to_have_count(0)
    kept.load(run_name=f"{kept.name} kept")
    for change, told in CANNOT_BE_SET.items():
        kept.open_menu(FIRST)
        tab.evaluate(f"() => {{ const sampler = app.graph.getNodeById('{SAMPLER}'); {change} }}")
        tab.keyboard.press("Enter")
        expect(kept.dialog).to_contain_text(told)
        tab.keyboard.press("Escape")
        kept.load(run_name=f"{kept.name} kept")
    for chunk, offered in ((LIVE, FOX), (LIVE + 1, RIVER)):  # a live prompt that begins there is left out
        kept.open_menu(chunk)
        tab.keyboard.press("Enter")
        expect(kept.dialog.get_by_label("Prompt")).to_have_value(offered)
        tab.keyboard.press("Escape")
    kept.open_menu(1)
    tab.evaluate(ANOTHER_FIRST, f"[0s] {FOX}\n[1.3s] {RIVER}")  # chunk 2 of this one, chunk 1 of that one
    tab.keyboard.press("Enter")
    expect(kept.dialog.get_by_label("Prompt")).to_have_value(FOX)
    expect(kept.dialog).to_contain_text("Chunks 1 to 7 are made anew, to the end; those before stay.")
    expect(kept.dialog).to_contain_text("The scenes after this one go on from it.")
    tab.keyboard.press("Escape")
    kept.open_menu(FIRST)
    tab.evaluate(
        """() => {
          const sampler = app.graph.getNodeById('5');
          sampler.disconnectInput(sampler.findInputSlot('schedule'));
        }"""
    )
    tab.keyboard.press("Enter")
    prompt = kept.dialog.get_by_label("Prompt")
    expect(prompt).to_have_value(re.compile("^It cannot be set here: it comes from positive"))
    expect(prompt).to_be_disabled()
    tab.keyboard.press("Escape")
    names = ["film-1", "film-2", "film-%n%", "film-%n%", "film-2", "film-1"]
    assert tab.evaluate(NAMES_OF_SCENES) == names


@IN_VUE
def test_a_sampler_in_a_subgraph_whose_seed_a_primitive_gives_is_set_where_it_stands(kept: Table) -> None:
    page, tab = kept.page, kept.page.tab
    tab.evaluate(
        """async () => {
          const sampler = app.graph.getNodeById('5');
          const seed = LiteGraph.createNode('PrimitiveInt');
          seed.pos = [60, -200];
          app.graph.add(seed);
          seed.connect(0, sampler, sampler.inputs.findIndex((each) => each.widget?.name === 'seed'));
          seed.title = 'the seed';
          const { node } = app.graph.convertToSubgraph(new Set([sampler]));
          app.canvas.openSubgraph(node.subgraph, node);
          app.canvas.ds.scale = 0.9;
          app.canvas.ds.offset = [560, 80];
        }"""
    )
    page.settle()
    try:
        kept.open_menu(FIRST)
        tab.keyboard.press("Enter")
        kept.dialog.get_by_label("Seed").fill(str(SEED))
        kept.listen()
        with tab.expect_request(lambda request: request.url.endswith("/prompt")) as sent:
            tab.keyboard.press("Enter")
        prompt = json.loads(sent.value.post_data or "")["prompt"]
        (sampler,) = [node for node in prompt.values() if node["class_type"] == "HeadForcingSampler"]
        (seed,) = [node for node in prompt.values() if node["class_type"] == "PrimitiveInt"]
        assert (sampler["inputs"]["from_chunk"], seed["inputs"]["value"]) == (FIRST, SEED)
        page.wait_for_end(LONGEST_RUN)  # it is no run of this model
        expect(kept.dialog).to_have_count(0)
        assert (
            tab.evaluate(
                """() => app.canvas.graph.nodes.find((node) => node.type === 'HeadForcingSampler')
              .widgets.find((each) => each.name === 'from_chunk').value"""
            )
            == -1
        )
    finally:
        tab.evaluate("() => app.canvas.setGraph(app.rootGraph)")
