// Samplers in a row, each going on from the one before: under which name the run of one is kept, and whether another
// goes on from it. nodes/host/wiring.py counts alike.
import { idsOf } from "./execution_ids.js";
import { runs, source, targets } from "./graph_walk.js";
import { runNameOf } from "./sampler_widgets.js";

const NUMBER = "%n%";
const SAMPLER = "HeadForcingSampler";

/** The name under which the run is kept that `run` of the film strip shows; empty for none, or where only a run can know
 * it. With %n% left in it where one sampler makes several scenes. */
export function keptNameOf(node, run) {
  const name = runNameOf(node);
  const number = name.includes(NUMBER) ? sceneNumber(node, run) : undefined;
  return number === undefined ? name : name.replaceAll(NUMBER, number);
}

/** The scene that a sampler makes, from 1 on; undefined where that is not known, or its copies make several, as in a
 * loop. */
function sceneNumber(node, run) {
  if (!idsOf(node).includes(run?.split("/")[1])) return undefined; // a run is called by its prompt and its node
  const found = new Set([node]);
  const waiting = [source(node, "previous")];
  while (waiting.length) {
    const at = waiting.pop()?.node;
    if (!at || found.has(at)) continue;
    found.add(at);
    const names = at.type === SAMPLER ? ["previous"] : (at.inputs ?? []).map((input) => input.name);
    waiting.push(...names.map((name) => source(at, name)));
  }
  const samplers = [...found].filter((each) => each.type === SAMPLER);
  return samplers.some((each) => idsOf(each).length > 1) ? undefined : samplers.length;
}

/** Whether another sampler goes on from one: its latent leads to a `previous`, whatever stands between. */
export function isGoneOnFrom(node) {
  const seen = new Set([node]);
  const waiting = targets(node, node.findOutputSlot("latent"));
  while (waiting.length) {
    const { node: at, slot } = waiting.pop();
    if (at.type === SAMPLER && runs(at) && at.inputs[slot].name === "previous") return true;
    if (seen.has(at) || at.type === SAMPLER) continue;
    seen.add(at);
    waiting.push(...(at.outputs ?? []).flatMap((_, output) => targets(at, output)));
  }
  return false;
}
