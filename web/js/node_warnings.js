// What an artist should know of a node's last run, in sentences that stay on the node until it runs again.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { addStyle, element } from "./elements.js";
import { nodeOf } from "./execution_ids.js";
import { addPanel } from "./node_panel.js";
import { isOfThisWorkflow } from "./own_runs.js";

const HOSTS = "$$"; // how the host names what it adds to a node by itself

const shown = new WeakMap(); // by node: what it shows, of which prompt, and how high it was without

async function hear({ detail }) {
  const { node_id: id, prompt_id: promptId, text } = detail;
  if (!(await isOfThisWorkflow(promptId))) return;
  const node = nodeOf(id);
  if (!node) return;
  if (shown.get(node)?.promptId !== promptId) begin(node, promptId);
  shown.get(node).list.append(element("p", "hf-warning-text", text));
}

function begin(node, promptId) {
  clear(node);
  const list = element("div", "hf-warnings");
  list.setAttribute("role", "status"); // read aloud
  const [width, high] = node.size;
  const widget = addPanel(node, "warnings", list);
  const below = node.widgets.findIndex(({ name }) => name.startsWith(HOSTS)); // its line of text and its preview
  if (below >= 0) node.widgets.splice(below, 0, node.widgets.pop());
  shown.set(node, { promptId, list, widget, high });
  node.setSize([width, Math.max(high, node.computeSize()[1])]);
}

function clear(node) {
  const { widget, high } = shown.get(node) ?? {};
  if (!widget) return;
  shown.delete(node);
  node.removeWidget(widget);
  node.setSize([node.size[0], Math.max(high, node.computeSize()[1])]);
  node.setDirtyCanvas(true, true);
}

// a node that the host takes from its cache is not running, and what was said of it still holds
async function hearProgress({ detail: { prompt_id: promptId, nodes } }) {
  for (const { display_node_id: id, state } of Object.values(nodes)) {
    const node = state === "running" ? nodeOf(id) : undefined;
    const { promptId: last } = shown.get(node) ?? {};
    if (last && last !== promptId && (await isOfThisWorkflow(promptId)) && shown.get(node)?.promptId === last) {
      clear(node);
    }
  }
}

app.registerExtension({
  name: "headforcing.NodeWarnings",
  setup() {
    addStyle("node_warnings.css");
    api.addEventListener("head_forcing.warning", hear);
    api.addEventListener("progress_state", hearProgress);
  },
});
