// The widgets of a sampler that decide which chunks are made anew, set by hand or for one queueing alone.
import { app } from "../../../scripts/app.js";
import { holderOf, valueOf } from "./graph_walk.js";

const AFTER = "control_after_generate";
const PAUSE_MS = 50;

/** The name under which a sampler's run is kept; empty for none, or where only a run can know it. */
export const runNameOf = (node) => String(valueOf(node, "run_name") ?? "").trim();

/** Set a widget as {node, widget}. */
export function setWidget({ node, widget }, value) {
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
  node.setDirtyCanvas?.(true, true);
}

/** The sampler's {name, seed, fromChunk, onExisting}, each {node, widget}; undefined are those that a run gives. */
export function samplerWidgets(node) {
  return {
    name: holderOf(node, "run_name"),
    seed: holderOf(node, "seed"),
    fromChunk: holderOf(node, "from_chunk"),
    onExisting: holderOf(node, "on_existing_run"),
  };
}

/** Give a sampler a seed that stays: the page would draw another one at each Run, or even before this one. */
export function setSeed(node, seed, value) {
  const controls = [...(seed.widget.linkedWidgets ?? []), ...seed.node.widgets, ...node.widgets];
  for (const widget of controls) {
    if (widget.name === AFTER && widget.value !== "fixed") setWidget({ node, widget }, "fixed");
  }
  if (seed.widget.value !== value) setWidget(seed, value);
}

/** Queue the workflow once, as Run does, and wait until it is sent. What ComfyUI finds wrong with it the page shows. */
export async function queueOnce() {
  await app.queuePrompt(0, 1);
  while (app.processingQueue) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS)); // behind another one
}
