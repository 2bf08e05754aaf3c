"""What artists do with a graph beside running it: mute and bypass, reroutes and primitives, several runs at once, files
dropped onto the page; and what the page offers for a file that is missing."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from headforcing_core.farm.process import Server
from tests.conftest import REPOSITORY
from tests.page.model_addresses import ADDRESSES
from tests.page.page import AA, ComfyPage, Json, open_page
from tests.page.test_sampler_panel import (
    FOX,
    LONGEST_RUN,
    POLICY,
    RIVER,
    SAMPLER,
    Opened,
    load,
    memory,
)

ACTIVE, MUTED, BYPASSED = 0, 2, 4
# the page asks there how large a missing file is, and about nodes that it shows in its error panel
LOOK_UPS = ("https://huggingface.co/", "https://api.comfy.org/")
ADD = """({ type, to, input, values, source }) => {
  const { graph } = app;
  const node = LiteGraph.createNode(type);
  graph.add(node);
  if (source) graph.getNodeById(source).connect(0, node, 0);
  const target = graph.getNodeById(to);
  node.connect(0, target, target.inputs.findIndex((each) => each.name === input || each.widget?.name === input));
  for (const [name, value] of Object.entries(values ?? {})) {
    node.widgets.find((widget) => widget.name === name).value = value;
  }
  return node.id;
}"""
SET_MODE = """([id, mode]) => {
  app.graph.getNodeById(id).mode = mode;
  app.canvas.setDirty(true, true);
}"""
DROP = """async ({ name, type, bytes, url }) => {
  const data = url ? await (await fetch(url)).arrayBuffer() : new Uint8Array(bytes);
  const transfer = new DataTransfer();
  transfer.items.add(new File([data], name, { type }));
  const [x, y] = [700, 500];
  for (const kind of ['dragenter', 'dragover', 'drop']) {
    const about = { bubbles: true, cancelable: true, dataTransfer: transfer, clientX: x, clientY: y };
    document.elementFromPoint(x, y).dispatchEvent(new DragEvent(kind, about));
  }
}"""


@pytest.fixture(scope="module")
def page(comfyui: Server) -> Iterator[ComfyPage]:
    with open_page(comfyui.url) as opened:
        yield opened


@pytest.fixture
def opened(page: ComfyPage) -> Iterator[Opened]:
    """The sampler with a loader, a schedule and a policy. Nothing may fail, or reach beyond this machine."""
    page.console_errors.clear()
    page.blocked.clear()
    opened = Opened(page)
    load(opened)
    yield opened
    assert (page.console_errors, page.blocked) == ([], [])


def sampler_inputs(opened: Opened) -> dict[str, Json]:
    """What the page would send for the sampler."""
    return opened.page.api_prompt()["5"]["inputs"]


def set_mode(opened: Opened, node_id: str | int, mode: int) -> None:
    opened.page.tab.evaluate(SET_MODE, [node_id, mode])


def add(opened: Opened, type_: str, to: str, input_: str, **more: Json) -> int:
    """Add a node and link its first output to an input."""
    return opened.page.tab.evaluate(ADD, {"type": type_, "to": to, "input": input_, **more})


@pytest.mark.parametrize("mode", [MUTED, BYPASSED])
def test_the_line_reckons_without_a_node_that_does_not_run(opened: Opened, mode: int) -> None:
    opened.page.set_widget(POLICY, "preset", "uniform_21")
    opened.wait_for_cost(memory("uniform_21"))
    set_mode(opened, "4", mode)
    assert "policy" not in sampler_inputs(opened)
    opened.wait_for_cost(memory("paper"))
    set_mode(opened, "4", ACTIVE)
    opened.page.set_widget(POLICY, "preset", "recall")
    opened.wait_for_cost("up to 9 passes more, and 3 for each")
    steps = add(opened, "BasicScheduler", "5", "sigmas", values={"steps": 1})
    opened.wait_for_cost("up to 12 passes more, and 4 for each")
    set_mode(opened, steps, mode)
    opened.wait_for_cost("up to 9 passes more, and 3 for each")
    video = add(opened, "EmptyImage", "5", "video")
    opened.wait_for_cost("up to 27 chunks")
    set_mode(opened, video, mode)
    assert not {"video", "sigmas"} & sampler_inputs(opened).keys()
    expect(opened.cost).not_to_contain_text("up to 27 chunks")


def test_the_line_reckons_through_a_bypassed_node_and_not_through_a_muted_one(opened: Opened) -> None:
    lora = add(opened, "LoraLoaderModelOnly", "5", "model", source="1")
    opened.page.set_widget("HeadForcingLoadARModel", "chunk_frames", 1)
    opened.wait_for_cost("81 chunks, 81 frames")
    set_mode(opened, lora, BYPASSED)
    assert sampler_inputs(opened)["model"] == ["1", 0]
    opened.page.set_widget("HeadForcingLoadARModel", "chunk_frames", 3)
    opened.wait_for_cost("27 chunks, 81 frames")
    opened.page.set_widget("HeadForcingLoadARModel", "chunk_frames", 1)
    opened.wait_for_cost("81 chunks, 81 frames")
    set_mode(opened, lora, MUTED)
    assert "model" not in sampler_inputs(opened)
    opened.wait_for_cost("27 chunks, 81 frames")  # of a model of which nothing is known
    for node in (lora, add(opened, "LoraLoaderModelOnly", str(lora), "model", source=str(lora))):
        set_mode(opened, node, BYPASSED)  # in a ring
    opened.page.set_widget(SAMPLER, "seconds", 10)
    opened.wait_for_cost("14 chunks")


def test_the_line_and_the_ruler_read_primitives_and_go_through_reroutes(opened: Opened) -> None:
    tab, bars = opened.page.tab, opened.page.tab.locator(".hf-ruler-bar")
    expect(bars).to_have_count(1)
    seconds = add(opened, "PrimitiveFloat", "5", "seconds", values={"value": 40.0})
    opened.wait_for_cost("54 chunks, 162 frames, 40.0 s")
    set_mode(opened, seconds, MUTED)
    assert sampler_inputs(opened)["seconds"] == 20.0  # the widget below
    opened.wait_for_cost("27 chunks, 81 frames, 20.0 s")
    set_mode(opened, seconds, ACTIVE)
    add(opened, "PrimitiveStringMultiline", "3", "text", values={"value": f"[0s] {FOX}\n[9s] {RIVER}"})
    expect(bars).to_have_count(2)
    seed = add(opened, "PrimitiveNode", "5", "seed")
    tab.evaluate("(id) => { app.graph.getNodeById(id).widgets[0].value = 77; }", seed)
    add(opened, "Reroute", "5", "schedule", source="3")
    add(opened, "Reroute", "5", "policy", source="4")
    opened.page.set_widget(POLICY, "preset", "uniform_21")
    opened.page.settle()
    sent = sampler_inputs(opened)
    assert (sent["seed"], sent["schedule"], sent["policy"]) == (77, ["3", 0], ["4", 0])
    expect(tab.locator(".hf-ruler-axis")).to_contain_text("40")
    opened.wait_for_cost("54 chunks")


def test_a_muted_sampler_does_not_decide_where_scenes_fall(opened: Opened) -> None:
    end = opened.page.tab.locator(".hf-ruler-last")
    expect(end).to_have_text("20 s")
    other = opened.page.tab.evaluate(
        """() => {
          const { graph } = app;
          const other = LiteGraph.createNode('HeadForcingSampler');
          graph.add(other);
          other.pos = [60, 900];
          other.widgets.find((widget) => widget.name === 'seconds').value = 40;
          const schedule = graph.getNodeById('3');
          schedule.connect(0, other, other.inputs.findIndex((input) => input.name === 'schedule'));
          return other.id;
        }"""
    )
    set_mode(opened, "5", MUTED)
    expect(end).to_have_text("40 s")
    set_mode(opened, other, MUTED)
    expect(end).to_have_text("20 s")


def test_a_batch_makes_a_kept_run_of_each_seed(opened: Opened, comfyui: Server) -> None:
    opened.make_tiny(0.5, seed=81)
    opened.page.set_widget(SAMPLER, "run_name", "batch")
    opened.page.set_widget(SAMPLER, "on_existing_run", "new")
    opened.page.tab.evaluate(
        """async () => {
          const { graph } = app;
          graph.getNodeById('5').widgets.find((each) => each.name === 'control_after_generate').value = 'increment';
          window.hfShown = [];
          app.api.addEventListener('executed', ({ detail }) => {
            if (String(detail.node) === '6') window.hfShown.push(JSON.parse(detail.output.text[0]).settings.seed);
          });
          await app.queuePrompt(0, 3);
        }"""
    )
    opened.page.tab.wait_for_function("() => window.hfShown.length === 3", timeout=LONGEST_RUN * 1000)
    assert opened.page.tab.evaluate("() => window.hfShown") == [81, 82, 83]
    kept = comfyui.folder / "output" / "head_forcing"
    seeds = [
        json.loads((kept / name / "run.json").read_text("utf-8"))["seeds"] for name in ("batch", "batch_2", "batch_3")
    ]
    assert seeds == [[[0, 81]], [[0, 82]], [[0, 83]]]
    assert sampler_inputs(opened)["seed"] == 84


def test_a_workflow_file_and_a_video_of_ours_that_are_dropped_open_their_workflow(opened: Opened) -> None:
    tab = opened.page.tab
    opened.make_tiny(0.5, seed=91)
    vae = add(opened, "VAELoader", "5", "vae", values={"vae_name": "lighttaew2_1.safetensors"})
    tab.evaluate(
        """() => {
          const save = LiteGraph.createNode('SaveVideo');
          app.graph.add(save);
          app.graph.getNodeById('5').connect(1, save, 0);
        }"""
    )
    assert opened.page.queue(), opened.page.node_errors()
    run = opened.page.wait_for_end(LONGEST_RUN)
    assert (run.outcome, run.error()) == ("success", "")
    (saved,) = [file for shown in run.outputs().values() for file in shown.get("images", [])]
    shipped = (REPOSITORY / "workflows" / "few_steps.json").read_bytes()
    tab.evaluate(DROP, {"name": "few_steps.json", "type": "application/json", "bytes": list(shipped)})
    count = len(json.loads(shipped)["nodes"])
    tab.wait_for_function("(count) => app.graph.nodes.length === count", arg=count)
    assert not opened.page.missing_node_types(json.loads(shipped))
    opened.page.wait_until_ready()
    query = "&".join(f"{name}={saved[name]}" for name in ("filename", "subfolder", "type"))
    tab.evaluate(DROP, {"name": "film.mp4", "type": "video/mp4", "url": f"/api/view?{query}"})
    tab.wait_for_function(
        "() => app.graph.nodes.some((node) => node.type === 'SaveVideo' && app.graph.nodes.length === 8)"
    )
    sent = opened.page.api_prompt()
    assert (sent["5"]["inputs"]["seed"], sent["5"]["inputs"]["vae"]) == (91, [str(vae), 0])
    assert sent["3"]["inputs"]["text"] == FOX
    opened.page.wait_until_ready()


def test_a_missing_file_is_offered_where_it_can_be_had(page: ComfyPage, comfyui: Server) -> None:
    workflow = json.loads((REPOSITORY / "workflows" / "first_minute.json").read_text(encoding="ascii"))
    named = {model["name"] for node in workflow["nodes"] for model in node["properties"].get("models", [])}
    hidden = [path for name in named for path in (comfyui.folder / "models").rglob(name)]
    page.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    try:
        for path in hidden:
            path.rename(path.with_suffix(".hidden"))
        page.tab.evaluate("() => app.refreshComboInNodes()")
        page.load_workflow(workflow, "first_minute")
        page.tab.get_by_role("button", name="View details").dispatch_event("click")  # a toast may lie over it
        copies = page.tab.get_by_role("button", name="Copy URL")
        page.keep_screenshot("missing_files")
        expect(copies).to_have_count(len(named))
        copied = set()
        for copy in copies.all():
            copy.dispatch_event("click")
            copied.add(page.tab.evaluate("() => navigator.clipboard.readText()"))
        # what is copied is the page of the file, as the host writes it
        assert copied == {model["url"].replace("/resolve/", "/blob/") for model in ADDRESSES if model["name"] in named}
    finally:
        for path in hidden:
            path.with_suffix(".hidden").rename(path)
        page.tab.evaluate("() => app.refreshComboInNodes()")
    # the host's own look-ups, which its policy forbids here
    assert [line for line in page.blocked if not any(known in line for known in LOOK_UPS)] == []


@pytest.mark.parametrize("palette", ["light", "dark"])
def test_the_cost_line_can_be_read(opened: Opened, palette: str) -> None:
    try:
        opened.page.set_theme(palette)
        opened.page.set_widget(SAMPLER, "width", 4096)
        opened.page.set_widget(SAMPLER, "height", 4096)
        opened.wait_for_cost("Keys and values alone take more than the ")
        contrasts = opened.page.contrasts(".hf-cost-parts, .hf-live-title, .hf-cost-sentence")
        assert len(contrasts) == 3 and min(contrasts.values()) >= AA, contrasts
    finally:
        opened.page.set_theme("dark")
