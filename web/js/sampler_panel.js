// Under the widgets of the Head-Forced Sampler: what the run will take, and a box for prompts while it goes.
// The node works the same without this script.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { CostLine } from "./cost_line.js";
import { addStyle, element } from "./elements.js";
import { nodeOf } from "./execution_ids.js";
import { LivePrompt } from "./live_prompt.js";
import { addPanel, chain } from "./node_panel.js";
import { isOfThisWorkflow } from "./own_runs.js";

const NODE = "HeadForcingSampler";
const SCENES = "head_forcing.scenes";
const ENDS = ["execution_success", "execution_error", "execution_interrupted"];
const LOOK_MS = 150; // what has not changed from one look to the next is asked

const panels = new Map(); // by node, of those in a graph

function addSamplerPanel(node) {
  const panel = { cost: new CostLine(node), live: new LivePrompt(node) };
  addPanel(node, "sampler_panel", element("div", "hf-panel", panel.cost.element, panel.live.element));
  let timer;
  chain(node, "onAdded", () => {
    panels.set(node, panel);
    clearInterval(timer);
    timer = setInterval(() => panel.cost.look(), LOOK_MS);
  });
  chain(node, "onRemoved", () => {
    panels.delete(node);
    clearInterval(timer);
  });
}

async function hear({ detail }) {
  const panel = panels.get(nodeOf(detail.node_id));
  if (panel && (await isOfThisWorkflow(detail.prompt_id))) panel.live.hear(detail);
}

function listen() {
  api.addEventListener(SCENES, hear);
  for (const end of ENDS) api.addEventListener(end, () => panels.forEach((panel) => panel.cost.forget()));
  api.addEventListener("reconnected", () => panels.forEach((panel) => panel.live.forget()));
}

app.registerExtension({
  name: "headforcing.SamplerPanel",
  setup() {
    addStyle("sampler_panel.css");
    listen();
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) addSamplerPanel(node);
  },
});
