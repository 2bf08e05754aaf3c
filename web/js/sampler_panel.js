// Under the widgets of the Head-Forced Sampler: what a run will take, the film so far, its takes, a box for live prompts.
// The node works the same without this script.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { CostLine } from "./cost_line.js";
import { closeOpened } from "./dialog.js";
import { addStyle, element } from "./elements.js";
import { nodeOf } from "./execution_ids.js";
import { FilmStrip } from "./film_strip.js";
import { LivePrompt } from "./live_prompt.js";
import { addPanel, chain } from "./node_panel.js";
import { isOfThisWorkflow } from "./own_runs.js";
import { runNameOf } from "./sampler_widgets.js";
import { Takes } from "./takes.js";

const NODE = "HeadForcingSampler";
const SCENES = "head_forcing.scenes";
const CHUNK = "head_forcing.chunk";
const ENDS = ["execution_success", "execution_error", "execution_interrupted"];
const LOOK_MS = 150; // what has not changed from one look to the next is asked

const panels = new Map(); // by node, of those in a graph

function addSamplerPanel(node) {
  const strip = new FilmStrip(node);
  const panel = { cost: new CostLine(node), strip, takes: new Takes(node, strip), live: new LivePrompt(node) };
  const parts = Object.values(panel).map((part) => part.element);
  addPanel(node, "sampler_panel", element("div", "hf-panel", ...parts));
  let timer;
  let [name, seen] = [undefined, undefined]; // of the run that was asked for, and at the last look
  const look = () => {
    panel.cost.look();
    const now = runNameOf(node);
    if (now !== name && now === seen) {
      name = now;
      refresh(panel);
    }
    seen = now;
  };
  chain(node, "onAdded", () => {
    panels.set(node, panel);
    clearInterval(timer);
    timer = setInterval(look, LOOK_MS);
  });
  chain(node, "onRemoved", () => {
    panels.delete(node);
    clearInterval(timer);
    strip.closePlayer();
    closeOpened(); // ComfyUI's own undo, which puts a new node in its place, reaches under a dialog
  });
}

async function refresh({ strip, takes }) {
  await strip.refresh(); // it says which scene's run this is
  takes.refresh();
}

/** Hand an event on to the panel of its node, if it is of a run of this workflow. */
function hear(event, take) {
  api.addEventListener(event, async ({ detail }) => {
    if (!(await isOfThisWorkflow(detail.prompt_id))) return;
    const panel = panels.get(nodeOf(detail.node_id));
    if (panel) take(panel, detail);
  });
}

function listen() {
  hear(SCENES, ({ live, strip, takes }, detail) => {
    live.hear(detail);
    strip.update();
    takes.refresh(); // a run that is made anew puts one aside
  });
  hear(CHUNK, ({ strip }, detail) => strip.hearChunk(detail));
  for (const end of ENDS) {
    api.addEventListener(end, () => {
      panels.forEach(({ cost, strip, takes }) => {
        cost.forget();
        strip.update();
        takes.refresh();
      });
    });
  }
  api.addEventListener("reconnected", () => {
    panels.forEach((panel) => {
      panel.cost.forget();
      panel.live.forget();
      refresh(panel);
    });
  });
}

app.registerExtension({
  name: "headforcing.SamplerPanel",
  setup() {
    addStyle("sampler_panel.css");
    addStyle("film_strip.css");
    addStyle("takes.css");
    listen();
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) addSamplerPanel(node);
  },
});
