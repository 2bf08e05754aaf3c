"""Make the blueprint from the nodes of first_minute, with the page itself: a subgraph, published, and copied from where
the page has put it.

Run it after a change of first_minute or of a node's inputs: python dev.py run -- python -m tests.page.draw_blueprint
"""

import json

from devtools.server.base_directory import temporary_base_directory
from devtools.setup.installation import Installation
from tests.page.draw_workflows import (
    SETTINGS,
    WORKFLOWS,
    Heights,
    api_form,
    arranged,
    groups_in,
    heights_in,
    heights_of,
)
from tests.page.page import ComfyPage, Json, open_page

NAME = "One-minute video"
TARGET = WORKFLOWS.parent / "subgraphs" / f"{NAME}.json"
DESCRIPTION = (
    "Makes a long video from timed prompts with Head Forcing, in memory that does not grow with it. Each line such as "
    "[20s] begins a scene. With start_image connected it begins with that picture; describe it in the first prompt. "
    "Other files for text encoder and VAE, the size, and a run_name that keeps the video, are set inside."
)
GROUPED = "models: 1 2 3 | prompts: 4 | memory: 5 7 | make: 8"
SAVE_AS = "one_minute_video"  # whatever model is chosen, the profiles of the workflows stay
# none of the advanced ones: on a subgraph the newer nodes hide them for good
INPUTS = [
    ("HeadForcingSampler", "start_image"),
    ("HeadForcingPromptSchedule", "text"),
    ("HeadForcingSampler", "seconds"),
    ("HeadForcingSampler", "seed"),
    ("HeadForcingCachePolicy", "preset"),
    ("HeadForcingLoadARModel", "model_name"),
]
OUTPUTS = ["video", "report"]
PUBLISH = """async ({ name, description, inputs, outputs }) => {
  const { graph, canvas, extensionManager } = window.app;
  const all = new Set([...graph.nodes, ...graph.groups, ...graph.reroutes.values()]);
  const { subgraph, node } = graph.convertToSubgraph(all);
  for (const input of [...subgraph.inputs]) subgraph.removeInput(input); // the page offers every seed
  const find = (type) => subgraph.nodes.find((inner) => inner.type === type);
  for (const [type, name] of inputs) {
    const slot = find(type).inputs.find((input) => input.name === name);
    subgraph.addInput(name, slot.type).connect(slot, find(type));
    const inner = find(type).widgets.find((widget) => widget.name === name);
    if (inner) node.widgets.find((widget) => widget.name === name).value = inner.value;
  }
  const sampler = find('HeadForcingSampler');
  for (const name of outputs) {
    const slot = sampler.outputs.find((output) => output.name === name);
    subgraph.addOutput(name, slot.type).connect(slot, sampler);
  }
  Object.assign(subgraph, { name, description });
  subgraph.extra.BlueprintDescription = description;
  subgraph.inputNode.arrange();
  subgraph.outputNode.arrange();
  node.title = name;
  node.setSize([460, 520]);
  canvas.deselectAll();
  canvas.select(node);
  await extensionManager.command.execute('Comfy.PublishSubgraph', { metadata: { name } });
}"""


def blueprint_api() -> dict[str, Json]:
    """The nodes of first_minute that the blueprint holds, in API form."""
    api = {node_id: node for node_id, node in api_form("first_minute").items() if node_id in GROUPED.split()}
    api["5"]["inputs"]["save_as"] = SAVE_AS
    return api


def publish(page: ComfyPage, heights: Heights) -> None:
    """Put the nodes into a subgraph with its inputs and outputs, and let the page store it as a blueprint."""
    arranged(page, blueprint_api(), groups_in(GROUPED), heights, NAME, "")
    page.settle()
    page.tab.evaluate(PUBLISH, {"name": NAME, "description": DESCRIPTION, "inputs": INPUTS, "outputs": OUTPUTS})


def main() -> None:
    """Draw the blueprint."""
    installation = Installation.from_environment()
    with temporary_base_directory(installation.models) as folder:
        with installation.server(folder) as server:
            with open_page(server.url, "vue", SETTINGS) as page:
                least = heights_of(page, NAME, blueprint_api())
            with open_page(server.url, "classic", SETTINGS) as page:
                publish(page, heights_in(least, heights_of(page, NAME, blueprint_api())))
        (published,) = (folder / "user").rglob(f"subgraphs/{NAME}.json")
        blueprint = json.loads(published.read_text(encoding="utf-8"))
    (subgraph,) = blueprint["definitions"]["subgraphs"]
    subgraph["category"] = "Head Forcing"  # where the node library puts it; the page does not ask for it
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(blueprint, indent=1) + "\n", "ascii")
    print(f"drew {NAME}")


if __name__ == "__main__":
    main()
