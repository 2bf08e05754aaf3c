// The ids under which the host runs nodes: "8", or "12:8" for node 8 inside the subgraph of node 12.
import { app } from "../../../scripts/app.js";

/** The node that runs under an id, or undefined. */
export function nodeOf(id) {
  const path = String(id).split(":");
  const last = path.pop();
  const graph = path.reduce((inside, each) => inside?.getNodeById(each)?.subgraph, app.rootGraph);
  return graph?.getNodeById(last) ?? undefined;
}

/** All ids under which a node runs: several when its subgraph is used more than once. */
export const idsOf = (node) => [...pathsTo(node.graph, app.rootGraph, "")].map((path) => `${path}${node.id}`);

function* pathsTo(wanted, graph, path) {
  if (graph === wanted) yield path;
  for (const node of graph.nodes) {
    if (node.subgraph) yield* pathsTo(wanted, node.subgraph, `${path}${node.id}:`);
  }
}
