"""The film strip on the Head-Forced Sampler, with classic nodes and with Vue nodes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Locator, Request, expect

from headforcing_core.farm.process import Server
from headforcing_core.geometry import chunk_start_second
from headforcing_core.rollout.plan import Segment
from tests.page.kept_film import HASH, reads, write_kept_film
from tests.page.page import AA, ComfyPage, Json

SAMPLER = "HeadForcingSampler"
FOX, RIVER, RAVEN = "a red fox in deep snow", "the fox finds a frozen river", "a raven lands"
SECONDS, RIVER_CHUNK, CHUNKS, FRAMES, FPS = 4.5, 4, 7, 3, 16.0
MANY, MOST_PICTURES = 5000, 200
LONGEST_RUN = 90.0
TEXTS = ".hf-strip-told, .hf-strip-prompt, .hf-strip-live, .hf-strip-count"
ROUTE = "/head_forcing/strip"
TEXT = f"[0s] {FOX}\n[2.8s] {RIVER}"
GRAPH = {
    "1": {
        "class_type": "HeadForcingLoadARModel",
        "inputs": {"model_name": "self_forcing_dmd.safetensors", "chunk_frames": 0},
    },
    "2": {"class_type": "HeadForcingTestLoadUMT5", "inputs": {"clip_name": "tiny_umt5.safetensors"}},
    "3": {
        "class_type": "HeadForcingPromptSchedule",
        "inputs": {"clip": ["2", 0], "text": f"[0s] {FOX}\n[2.8s] {RIVER}"},
    },
    "4": {"class_type": "HeadForcingCachePolicy", "inputs": {"preset": "uniform"}},
    "5": {
        "class_type": SAMPLER,
        "inputs": {
            **{"model": ["1", 0], "schedule": ["3", 0], "policy": ["4", 0], "vae": ["7", 0]},
            **{"seconds": SECONDS, "width": 128, "height": 96, "seed": 1, "run_name": "strip", "strength": 0.8},
        },
    },
    "6": {"class_type": "PreviewAny", "inputs": {"source": ["5", 3]}},
    "7": {"class_type": "VAELoader", "inputs": {"vae_name": "wan_2.1_vae.safetensors"}},
}
PLACES = {
    "1": [-760, 0],
    "2": [-760, 220],
    "3": [-380, 0],
    "4": [-380, 420],
    "5": [60, 0],
    "6": [620, 0],
    "7": [620, 300],
}
NEWEST = """async () => {
  const question = JSON.stringify({ node_id: '5', run_name: '', first: 0, count: 1 });
  const headers = { 'Content-Type': 'application/json' };
  return (await app.api.fetchApi('/head_forcing/strip', { method: 'POST', headers, body: question })).json();
}"""

IN_CLASSIC, IN_VUE = (  # what does not hang on how nodes are drawn
    pytest.mark.parametrize("rendered", [renderer], indirect=True) for renderer in ("classic", "vue")
)

expect.set_options(timeout=30_000)  # milliseconds; a busy machine is slow


@dataclass(frozen=True)
class Film:
    """A page with one sampler, and the report of its run."""

    page: ComfyPage
    report: Mapping[str, Json] = field(default_factory=dict)

    @property
    def strip(self) -> Locator:
        return self.page.tab.locator(".hf-strip")

    @property
    def window(self) -> Locator:
        return self.strip.locator(".hf-strip-window")

    @property
    def told(self) -> Locator:
        return self.strip.locator(".hf-strip-told")

    @property
    def pictures(self) -> Locator:
        return self.strip.locator(".hf-strip-cell img")

    @property
    def bars(self) -> Locator:
        return self.strip.locator(".hf-strip-bar")

    def cell(self, chunk: int) -> Locator:
        return self.strip.locator(f'.hf-strip-cell[data-chunk="{chunk}"]')

    def load(self, run_name: str, width: int = 400) -> None:
        """Open the graph, the sampler in the middle and the pointer over nothing."""
        self.page.tab.mouse.move(5, 5)
        self.page.tab.evaluate(
            """async ({graph, places, name, width}) => {
              await app.loadApiJson(graph, 'strip');
              for (const [id, place] of Object.entries(places)) app.graph.getNodeById(id).pos = place;
              const sampler = app.graph.getNodeById('5');
              const widget = (name) => sampler.widgets.find((each) => each.name === name);
              widget('control_after_generate').value = 'fixed';
              widget('run_name').value = name;
              sampler.setSize([width, sampler.size[1]]);
              // in API form a workflow has no id of its own
              await app.loadGraphData({ ...app.graph.serialize(), id: crypto.randomUUID() }, true, true, 'strip');
            }""",
            {"graph": GRAPH, "places": PLACES, "name": run_name, "width": width},
        )
        self.look_at(0.9)

    def look_at(self, zoom: float) -> None:
        """Bring the sampler's strip into view."""
        self.page.tab.evaluate(
            """(zoom) => {
              app.canvas.ds.scale = zoom;
              app.canvas.ds.offset = [780 / zoom - 300, 900 / zoom - 760];
              app.canvas.setDirty(true, true);
            }""",
            zoom,
        )

    def scroll_to(self, chunk: int) -> None:
        """Scroll so that a chunk stands at the left."""
        self.window.evaluate("(view, chunk) => { view.scrollLeft = chunk * 64; }", chunk)

    def video(self, what: str) -> Json:
        """A property of the player's video."""
        return self.strip.locator("video").evaluate(f"(video) => video.{what}")

    def wait_for_video(self, condition: str) -> None:
        """Wait until something holds of the player's `video`."""
        self.page.tab.wait_for_function(
            f"() => {{ const video = document.querySelector('.hf-strip video'); return {condition}; }}"
        )

    def lit(self) -> tuple[set[int], int, int]:
        """The chunks that light up, and how many do before and after the view."""
        chunks = self.strip.locator(".hf-strip-read").evaluate_all(
            """(cells) => {
              const inside = document.querySelector('.hf-strip-window').getBoundingClientRect();
              const isIn = ({ left, right }) => right > inside.left + 0.5 && left < inside.right - 0.5;
              const inView = cells.filter((cell) => isIn(cell.getBoundingClientRect()));
              return inView.map((cell) => Number(cell.dataset.chunk));
            }"""
        )
        before, after = (self.strip.locator(f".hf-strip-{side}").inner_text() for side in ("before", "after"))
        return set(chunks), int(before or 0), int(after or 0)


@pytest.fixture(scope="module")
def made(rendered: ComfyPage) -> Film:
    """A film that was made while the page looked on."""
    film, name = Film(rendered), f"strip_{rendered.renderer}"
    film.load(name)
    rendered.console_errors.clear()
    rendered.settle()
    expect(film.strip).to_be_hidden()  # nothing was made yet
    assert rendered.queue(), rendered.node_errors()
    rendered.tab.wait_for_function(
        "() => document.querySelectorAll('.hf-strip-cell img').length > 1 && !headForcingTest.hasEnded()",
        timeout=LONGEST_RUN * 1000,
    )
    film.cell(0).click()  # plays as much as there is by now
    rendered.keep_screenshot("strip_growing")
    run = rendered.wait_for_end(LONGEST_RUN)
    assert (run.outcome, run.error()) == ("success", "")
    return Film(rendered, json.loads(run.outputs()["6"]["text"][0]))


@pytest.fixture
def film(made: Film) -> Iterator[Film]:
    """The film, from its beginning. Nothing may fail, or reach beyond this machine."""
    made.page.console_errors.clear()
    made.page.tab.mouse.move(5, 5)
    made.scroll_to(0)
    yield made
    assert (made.page.console_errors, made.page.blocked) == ([], [])


def test_it_has_a_picture_for_each_chunk_under_the_bars_of_the_scenes(film: Film) -> None:
    film.strip.locator("video").evaluate("(video) => video.pause()")
    expect(film.told).to_contain_text("chunk 0: reads nothing of the past")  # it has the focus
    film.cell(0).evaluate("(cell) => cell.blur()")
    expect(film.told).to_have_text(f"{CHUNKS} of {CHUNKS} chunks. Click one to play from there.")
    expect(film.cell(0)).to_have_attribute("aria-label", f"Chunk 0, 0:00.00, scene: {FOX}")
    expect(film.bars).to_have_text([FOX, RIVER])
    lefts = [film.bars.nth(1).bounding_box()["x"], film.cell(RIVER_CHUNK).bounding_box()["x"]]
    assert lefts[0] == pytest.approx(lefts[1], abs=1)
    shapes = film.pictures.evaluate_all("(all) => all.map((each) => [each.naturalWidth, each.naturalHeight])")
    assert set(map(tuple, shapes)) == {(96, 72)}
    film.page.keep_screenshot("strip_made")


def test_what_a_chunk_reads_lights_up(film: Film) -> None:
    for chunk in (1, CHUNKS - 1):
        film.scroll_to(chunk - 1)
        film.cell(chunk).hover()
        expect(film.told).to_contain_text(f", chunk {chunk}: reads ")
        read = {frame // FRAMES for frame, _, _ in film.report["chunks"][chunk]["seen"]["memory"]}
        first = int(film.window.evaluate("(view) => view.scrollLeft / 64"))
        assert film.lit() == ({each for each in read if each >= first}, len({each for each in read if each < first}), 0)


def test_it_plays_from_the_chunk_that_is_clicked_and_by_keys(film: Film) -> None:
    press = film.page.tab.keyboard.press
    film.cell(2).click()
    film.wait_for_video(f"!video.paused && video.currentTime >= {chunk_start_second(2, FRAMES, FPS)}")
    expect(film.cell(2)).to_be_focused()
    press("Space")
    film.wait_for_video("video.paused")
    press("Home")
    expect(film.cell(0)).to_be_focused()
    press("ArrowRight")
    press("ArrowRight")
    press("ArrowLeft")
    expect(film.cell(1)).to_be_focused()
    film.wait_for_video(f"video.paused && Math.abs(video.currentTime - {chunk_start_second(1, FRAMES, FPS)}) < 0.01")
    assert film.strip.locator('.hf-strip-cell[tabindex="0"]').count() == 1
    press("End")  # the video was loaded while it was shorter
    expect(film.cell(CHUNKS - 1)).to_be_focused()
    last = chunk_start_second(CHUNKS - 1, FRAMES, FPS)
    film.wait_for_video(f"video.paused && Math.abs(video.currentTime - {last}) < 0.01")
    press("Enter")
    film.wait_for_video("video.ended")
    press("Enter")  # not from its beginning
    film.wait_for_video(f"!video.ended && video.currentTime >= {last}")
    film.bars.nth(0).evaluate("(bar) => bar.parentElement.click()")  # between the bars and the pictures
    assert film.strip.locator('.hf-strip-cell[tabindex="0"]').count() == 1
    high = film.strip.bounding_box()["height"]
    film.strip.get_by_role("button", name="Close").click()
    expect(film.strip.locator("video")).to_be_hidden()
    assert film.strip.bounding_box()["height"] < high - 100


def test_a_menu_is_asked_for_by_hand_and_by_keys(film: Film) -> None:
    tab = film.page.tab
    tab.evaluate("() => { window.asked = []; addEventListener('hf-chunk-menu', (event) => asked.push(event.detail)); }")
    film.cell(3).click(button="right")
    film.cell(4).focus()
    film.cell(4).press("Shift+F10")
    film.cell(4).press("ContextMenu")
    film.page.settle()
    asked = tab.evaluate("() => asked.map(({ chunk, second }) => [chunk, second])")
    assert [chunk for chunk, _ in asked] == [3, 4, 4]
    for chunk, second in asked:
        assert second == pytest.approx(chunk_start_second(chunk, FRAMES, FPS), abs=1e-3)
    assert tab.locator(".litecontextmenu, [role=menu]:not(.hf-menu):visible").count() == 0  # the node's own
    tab.keyboard.press("Escape")


def test_the_wheel_scrolls_it_and_moves_nothing_else(film: Film) -> None:
    def seen() -> list[float]:
        return film.page.tab.evaluate(
            "() => [app.canvas.ds.scale, ...app.canvas.ds.offset, ...app.graph.getNodeById('5').pos]"
        )

    before = seen()
    film.window.hover()
    film.page.tab.mouse.wheel(0, 40)
    film.page.settle()
    assert film.window.evaluate("(view) => view.scrollLeft") == 40
    film.page.tab.mouse.down()
    film.page.tab.mouse.move(600, 400, steps=3)
    film.page.tab.mouse.up()
    assert seen() == before


def test_it_is_there_after_a_reload_of_the_page(film: Film) -> None:
    film.page.tab.reload()
    film.page.wait_until_ready()
    film.look_at(0.9)
    expect(film.told).to_have_text(f"{CHUNKS} of {CHUNKS} chunks. Click one to play from there.")
    expect(film.cell(2).locator("img")).to_be_visible()
    film.page.tab.evaluate("() => app.graph.getNodeById('5').setSize([400, app.graph.getNodeById('5').size[1]])")


@IN_CLASSIC
def test_of_another_workflow_it_shows_only_what_is_kept_under_the_name(film: Film) -> None:
    tab = film.page.tab
    prompt = tab.evaluate(NEWEST)["run"].split("/")[0]
    film.load("")  # a workflow of its own, with the same ids
    film.page.settle()
    tab.evaluate(
        """([prompt_id, entry]) => app.api.dispatchEvent(new CustomEvent('head_forcing.chunk', {
          detail: { node_id: '5', prompt_id, run: `${prompt_id}/5`, entry, chunks: 1, made: 1, fps: 16, video: null },
        }))""",
        [prompt, {"chunk": 0, "second": 0.0, "picture": "", "reads": [], "picked": False}],
    )
    film.page.settle()
    expect(film.strip).to_be_hidden()
    film.page.set_widget(SAMPLER, "run_name", f"strip_{film.page.renderer}")
    expect(film.told).to_have_text(f"{CHUNKS} of {CHUNKS} chunks. Click one to play from there.")
    film.page.set_widget(SAMPLER, "run_name", "no such run")
    expect(film.strip).to_be_hidden()


@pytest.fixture(scope="module")
def long_film(comfyui: Server) -> str:
    """The name of a kept run of hours."""
    scenes = ((0, FOX, "recache", False), (100, RIVER, "recache", False), (110, RAVEN, "cut", True))
    segments = tuple(Segment(first, HASH, how, prompt=prompt, live=live) for first, prompt, how, live in scenes)
    folder = comfyui.folder / "output" / "head_forcing" / "hours"
    if not folder.exists():  # with classic nodes it was written already
        write_kept_film(folder, MANY, segments)
    return folder.name


def test_hours_are_as_light_as_minutes(rendered: ComfyPage, long_film: str) -> None:
    film, asked = Film(rendered), list[Mapping[str, Json]]()

    def hear(request: Request) -> None:
        if request.url.endswith(ROUTE):
            asked.append(request.post_data_json)

    rendered.console_errors.clear()
    film.load(long_film)
    expect(film.told).to_have_text(f"{MANY} of {MANY} chunks. Click one to play from there.")
    rendered.tab.on("request", hear)
    film.cell(0).focus()
    rendered.tab.keyboard.press("End")
    expect(film.cell(MANY - 1).locator("img")).to_be_visible()
    for chunk in [*range(0, 250, 17), *range(250, -1, -25)]:  # there and back
        film.scroll_to(chunk)
        expect(film.cell(chunk).locator("img")).to_be_visible()
        assert film.pictures.count() <= 20
    rendered.tab.remove_listener("request", hear)
    chunks = [each for question in asked for each in range(question["first"], question["first"] + question["count"])]
    assert len(chunks) == len(set(chunks)) and len(asked) <= 4
    assert 0 not in chunks  # was there
    film.scroll_to(108)
    expect(film.bars).to_have_text([RIVER, f"live {RAVEN}"])
    film.cell(112).hover()
    expect(film.told).to_have_text("1:23.81, chunk 112: reads 0, 108 to 111")
    assert film.lit() == ({108, 109, 110, 111}, 1, 0) and reads(112) == ((0, 0), (108, 111))
    expect(film.cell(114)).to_have_class("hf-strip-cell hf-strip-picked")
    film.cell(112).click()
    expect(film.told).to_contain_text("1:23.81, chunk 112: there is no video of it; connect vae, and use the video")
    assert (rendered.console_errors, rendered.blocked) == ([], [])


def test_a_node_that_is_very_wide_has_no_more_pictures(rendered: ComfyPage, long_film: str) -> None:
    film = Film(rendered)
    film.load(long_film, width=16_000)
    film.look_at(0.09)
    expect(film.pictures.nth(150)).to_be_attached()
    assert film.pictures.count() <= MOST_PICTURES


@IN_VUE
def test_its_texts_can_be_read_in_both_themes(rendered: ComfyPage, long_film: str) -> None:
    film = Film(rendered)
    film.load(long_film)
    expect(film.cell(1).locator("img")).to_be_visible()
    try:
        for palette in ("light", "dark"):
            rendered.set_theme(palette)
            film.scroll_to(108)
            film.cell(112).hover()
            expect(film.strip.locator(".hf-strip-before")).to_have_text("1")
            contrasts = rendered.contrasts(TEXTS)
            assert len(contrasts) == 4 and min(contrasts.values()) >= AA, contrasts
            rendered.keep_screenshot(f"strip_{palette}")
    finally:
        rendered.set_theme("dark")
