// What decides where the scenes of a Prompt Schedule fall: its text, and the sampler and loader that it is linked to.
import { isLinked, runs, targets, upstream, valueOf } from "./graph_walk.js";

const SAMPLER = "HeadForcingSampler";
const LOADER = "HeadForcingLoadARModel";
const FPS = 0; // the model's own

const numberOr = (value, otherwise) => (Number.isFinite(value) ? value : otherwise);
const textOr = (value, otherwise) => (typeof value === "string" ? value : otherwise);

/** {question, hasSampler, hasLoader}: the question for /head_forcing/schedule, whose text is undefined where only a run
 * can know it. Of several samplers that it is linked to, it is for the first that runs, or for the one that is given. */
export function scheduleQuestion(node, sampler = samplerOf(node)) {
  const loader = sampler && upstream(sampler, "model", LOADER);
  const question = {
    text: valueOf(node, "text"),
    is_drawn: !isLinked(node, "text"), // as the host draws the choices of a text box, and of no other node
    transition: textOr(valueOf(node, "transition"), "recache"),
    seconds: (sampler && numberOr(valueOf(sampler, "seconds"), null)) || null, // 0: as long as its audio
    fps: sampler ? numberOr(valueOf(sampler, "fps"), FPS) : FPS,
    beginning: beginningOf(sampler),
    model_name: loader ? textOr(valueOf(loader, "model_name"), "") : "",
    family: loader ? textOr(valueOf(loader, "family"), "auto") : "auto",
    chunk_frames: loader ? numberOr(valueOf(loader, "chunk_frames"), 0) : 0,
  };
  return { question, hasSampler: sampler !== undefined, hasLoader: loader !== undefined };
}

function samplerOf(node) {
  const samplers = targets(node, 0).flatMap((target) => (target.node.type === SAMPLER ? [target.node] : []));
  return samplers.find(runs) ?? samplers[0];
}

function beginningOf(sampler) {
  if (!sampler) return "none";
  return ["previous", "start_image"].find((name) => isLinked(sampler, name)) ?? "none";
}
