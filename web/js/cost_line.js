// What a run will take, in a line on its sampler, kept current. The server reckons; what a run takes is written once.
import { ask } from "./ask.js";
import { element } from "./elements.js";
import { isLinked, source, upstream, valueOf } from "./graph_walk.js";

const ROUTE = "/head_forcing/cost";
const LOADER = "HeadForcingLoadARModel";
const POLICY = "HeadForcingCachePolicy";
const SAMPLER_WIDGETS = ["seconds", "fps", "width", "height", "run_name", "on_existing_run"];
const LOADER_WIDGETS = ["model_name", "family", "chunk_frames"];
const LEVELS = ["warning", "error"];

/** The line of one sampler. `look()` asks when something has changed and then stayed; `forget()` makes it ask anew. */
export class CostLine {
  constructor(node) {
    this.node = node;
    this.parts = element("p", "hf-cost-parts");
    this.sentence = element("p", "hf-cost-sentence");
    this.sentence.setAttribute("role", "status"); // read aloud when it changes
    this.element = element("div", "hf-cost", this.parts, this.sentence);
    this.seen = this.asked = undefined;
  }

  forget() {
    this.asked = undefined;
  }

  async look() {
    const question = costQuestion(this.node);
    const now = JSON.stringify(question);
    if (now !== this.asked && now === this.seen) {
      this.asked = now;
      const answer = await ask(ROUTE, question).catch((error) => ({
        line: "",
        level: "error",
        sentence: error.message,
        tooltip: "",
      }));
      if (now === this.asked) this.show(answer);
    }
    this.seen = now;
  }

  show({ line, level, sentence, tooltip }) {
    this.parts.replaceChildren(...line.split(" | ").map((part) => element("span", "hf-cost-part", part)));
    this.parts.hidden = !line;
    this.element.title = tooltip;
    for (const each of LEVELS) this.element.classList.toggle(`hf-${each}`, each === level);
    if (this.sentence.textContent !== sentence) this.sentence.textContent = sentence;
    this.sentence.hidden = !sentence;
  }
}

function costQuestion(node) {
  const loader = upstream(node, "model", LOADER);
  return {
    sampler: samplerOf(node),
    policy: policyOf(node),
    model: loader ? valuesOf(loader, LOADER_WIDGETS) : null,
    beginning: ["previous", "start_image"].find((name) => isLinked(node, name)) ?? "none",
    steps: stepsOf(node),
  };
}

function samplerOf(node) {
  const names = isLinked(node, "video") ? [...SAMPLER_WIDGETS, "strength"] : SAMPLER_WIDGETS;
  const sampler = valuesOf(node, names);
  return isLinked(node, "audio") ? { ...sampler, has_audio: true } : sampler;
}

function stepsOf(node) {
  const scheduler = source(node, "sigmas")?.node;
  if (!scheduler) return 0;
  const steps = valueOf(scheduler, "steps");
  return Number.isInteger(steps) ? steps : null; // some nodes have no such widget
}

function policyOf(node) {
  const policy = source(node, "policy")?.node;
  if (!policy) return null;
  if (policy.type !== POLICY) return "unknown";
  const { required, optional } = policy.constructor.nodeData.input;
  return valuesOf(policy, Object.keys({ ...required, ...optional })); // all of them are widgets
}

// what only a run can know is null
const valuesOf = (node, names) => Object.fromEntries(names.map((name) => [name, valueOf(node, name) ?? null]));
