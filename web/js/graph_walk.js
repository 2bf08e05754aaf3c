// What a node is linked to when the graph runs: through reroutes, bypassed nodes and the borders of subgraphs; a node that
// is muted gives nothing.
import { app } from "../../../scripts/app.js";

const FROM_OUTSIDE = -10; // the host's ids for the two borders of a subgraph
const TO_OUTSIDE = -20;
const MOST_NODES = 64; // on one way, so that a ring of links ends
const MUTED = 2; // the host's modes
const BYPASSED = 4;

const linkOf = (graph, id) => (id == null ? undefined : graph?.getLink(id));

function instancesOf(subgraph) {
  const root = app.rootGraph;
  const graphs = [root, ...(root.subgraphs?.values() ?? [])];
  return graphs.flatMap((graph) => graph.nodes).filter((node) => node.subgraph === subgraph);
}

/** Every {node, slot} that an output leads to. */
export function targets(node, output, left = MOST_NODES) {
  const ids = node.outputs?.[output]?.links ?? [];
  return ids.flatMap((id) => targetsOf(node.graph, linkOf(node.graph, id), left - 1));
}

function targetsOf(graph, link, left) {
  if (!link || !left) return [];
  if (Number(link.target_id) === TO_OUTSIDE) {
    return instancesOf(graph).flatMap((instance) => targets(instance, link.target_slot, left));
  }
  const node = graph.getNodeById(link.target_id);
  if (!node) return [];
  const inside = node.subgraph;
  if (inside) {
    const ids = inside.inputs[link.target_slot]?.linkIds ?? [];
    return ids.flatMap((id) => targetsOf(inside, linkOf(inside, id), left - 1));
  }
  return node.type === "Reroute" ? targets(node, 0, left) : [{ node, slot: link.target_slot }];
}

/** The {node, slot} that an input comes from, or {node, widget} when it is a widget of a subgraph's node. */
export function source(node, name) {
  return origin(node.graph, linkOf(node.graph, inputOf(node, name)?.link));
}

function origin(graph, link, left = MOST_NODES) {
  if (!link || !left) return undefined;
  const from = (place, id) => origin(place, linkOf(place, id), left - 1);
  if (Number(link.origin_id) === FROM_OUTSIDE) {
    const [instance] = instancesOf(graph);
    const input = instance?.inputs[link.origin_slot];
    if (input?.link == null) return input?.widget && { node: instance, widget: input.widget.name };
    return from(instance.graph, input.link);
  }
  const node = graph.getNodeById(link.origin_id);
  if (node?.mode === MUTED) return undefined;
  if (node?.mode === BYPASSED) return from(graph, bypass(node, link.origin_slot)?.link);
  const inside = node?.subgraph;
  if (inside) return from(inside, inside.outputs[link.origin_slot]?.linkIds[0]);
  if (node?.type === "Reroute") return from(graph, node.inputs[0].link);
  return node && { node, slot: link.origin_slot };
}

/** The input whose link stands for an output of a bypassed node: that of the same place, else the first of its type. */
function bypass(node, output) {
  const { type } = node.outputs[output];
  const same = node.inputs[output];
  if (same && window.LiteGraph.isValidConnection(type, same.type)) return same;
  const fits = (input) => window.LiteGraph.isValidConnection(type, input.type);
  return node.inputs.find((input) => input.type === type) ?? node.inputs.find(fits);
}

/** Whether a node is neither muted nor bypassed. */
export const runs = (node) => node.mode !== MUTED && node.mode !== BYPASSED;

const inputOf = (node, name) => node.inputs?.find((input) => input.name === name || input.widget?.name === name);

/** Whether something is linked to an input. */
export const isLinked = (node, name) => source(node, name) !== undefined;

/** The {node, widget} that holds the value of an input, also where a primitive node gives it; undefined when only a run
 * can know it. */
export function holderOf(node, name) {
  const from = source(node, name);
  if (!from) return held(node, node.widgets?.find((widget) => widget.name === name));
  if (from.widget) return holderOf(from.node, from.widget);
  return from.node.type.startsWith("Primitive") ? held(from.node, from.node.widgets?.[0]) : undefined;
}

const held = (node, widget) => widget && { node, widget };

/** The value of a widget, likewise. */
export const valueOf = (node, name) => holderOf(node, name)?.widget.value;

/** The nearest node of a type up the links that an input's kind of thing comes along, such as a MODEL through LoRAs. */
export function upstream(node, name, type) {
  let from = source(node, name);
  for (let count = 0; from?.slot !== undefined && count < MOST_NODES; count += 1) {
    if (from.node.type === type) return from.node;
    const kind = from.node.outputs[from.slot]?.type;
    const through = from.node.inputs?.find((input) => input.type === kind && input.link != null);
    from = through && source(from.node, through.name);
  }
  return undefined;
}
