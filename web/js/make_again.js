// The form that makes a kept film again from a chunk on: another seed, another prompt for that stretch.
import { ask } from "./ask.js";
import { clock } from "./clock.js";
import { openDialog, tell } from "./dialog.js";
import { element } from "./elements.js";
import { runs } from "./graph_walk.js";
import { answerTo, promptOf } from "./own_runs.js";
import { queueOnce, samplerWidgets, setSeed, setWidget } from "./sampler_widgets.js";
import { isGoneOnFrom, keptNameOf } from "./scene_runs.js";
import { editSchedule, scheduleNodeOf } from "./schedule_edit.js";
import { scheduleQuestion } from "./schedule_question.js";
import { remember } from "./text_box.js";

const TAKES = "/head_forcing/takes";
const SCHEDULE = "/head_forcing/schedule";
const MOST_SEED = 2 ** 50; // as far as the page draws seeds by itself
const OFFERED = "my-film";
const NO_TEXT = "It cannot be set here: it comes from positive, or from a text of another node.";
const UNREADABLE = "It cannot be set here: the text of Prompt Schedule has an error, or choices of times.";
const WAITS =
  "ComfyUI is at work: this is made after what is in its queue. To begin at once, interrupt that; its chunks stay.";
const SAME =
  "Seed and prompt are those of the film, so nothing is made anew, unless you have changed the schedule. Press again " +
  "if you have.";
const LATER =
  "The scenes after this one go on from it. Where those are kept, set their on_existing_run (under advanced inputs) to " +
  "new or replace first: then they are made anew, too. With resume they stop with a sentence, and this one is made.";
const WHY_KEEP =
  "Only a film that is kept can be made again, and none of this name is. It is made once more, as the nodes stand; " +
  "from then on its chunks are kept in output/head_forcing.";

/** Open the form. `chunk` of a film, as the strip shows it, is to be made anew, and begins at `second` of the video. */
export async function openMakeAgain(node, film, chunk, second) {
  const title = `Make again from chunk ${chunk} (${clock(second)})`;
  const before = film.scenes[0]?.second ?? 0; // the schedule does not count what the video goes on from
  try {
    const { name, run } = await keptRun(node, film, chunk);
    const asked = { run, film, chunk, second: second - before };
    const form = run ? new MakeForm(node, title, asked) : new KeepForm(node, name, await seedOf(film));
    await form.open();
  } catch (error) {
    tell(title, error.message);
  }
}

/** The name of a sampler's run, and the run if it is there. Throws an Error with a sentence where nothing can be made
 * again. */
async function keptRun(node, film, chunk) {
  if (!runs(node)) throw new Error("The node is muted or bypassed, so it makes nothing. Let it run again first.");
  const { name, seed, fromChunk, onExisting } = samplerWidgets(node);
  const held = { run_name: name, seed, from_chunk: fromChunk, on_existing_run: onExisting };
  const lacking = Object.keys(held).find((each) => !held[each]);
  if (lacking) {
    throw new Error(`${lacking} comes from another node, so it cannot be set here. Set it on the Head-Forced Sampler.`);
  }
  const asked = keptNameOf(node, film.run);
  if (asked.includes("%n%")) {
    throw new Error(
      `run_name is ${asked}, and the page cannot tell which scene's run this is. In a loop one sampler makes them all, ` +
        "and from_chunk would count for each: copy it out of the loop, connect to previous what the scene had, and " +
        `type the name of the scene's run, such as ${asked.replaceAll("%n%", "2")}, into run_name (advanced inputs).`,
    );
  }
  const { takes } = asked ? await ask(TAKES, { run_name: asked }) : { takes: [] };
  const run = takes.find((take) => take.is_run);
  if (run?.problem) throw new Error(run.problem);
  if (run && chunk > run.chunks) {
    throw new Error(`The run ${asked} has ${run.chunks} finished chunks. Run it first, up to chunk ${chunk}.`);
  }
  return { name: asked, run };
}

/** The seed of a film that was not kept, if ComfyUI still knows it: the page may have drawn another one since. */
async function seedOf(film) {
  const [promptId, nodeId] = String(film.run).split("/");
  const seed = (await promptOf(promptId))?.[2]?.[nodeId]?.inputs.seed;
  return Number.isInteger(seed) ? seed : undefined;
}

function seedField(value) {
  const made = element("input", "hf-field-input");
  return Object.assign(made, { type: "number", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, required: true, value });
}

class Form {
  constructor(node, title, label) {
    Object.assign(this, { node, title });
    this.message = element("p", "hf-dialog-told");
    this.message.setAttribute("role", "status");
    this.send = element("button", "hf-dialog-do", label);
    this.send.type = "submit";
    this.form = element("form", "hf-form");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  show() {
    this.dialog = openDialog(this.title, [this.form]);
  }

  say(text, failed = false) {
    this.message.textContent = text;
    this.message.classList.toggle("hf-error", failed);
  }

  async #submit() {
    this.dialog.close(); // what lies under it cannot be edited, and an error of the page would not be seen
    try {
      await this.make();
    } catch (error) {
      this.show();
      this.say(error.message, true);
    }
  }
}

/** For a film that was not kept: it has to be made once under a name. */
class KeepForm extends Form {
  constructor(node, name, seed) {
    super(node, "Keep the film first", "Make and keep it");
    this.name = element("input", "hf-field-input");
    this.name.value = name || OFFERED;
    this.seed = seedField(seed ?? samplerWidgets(node).seed.widget.value);
    const fields = [field("run_name", this.name), field("Seed, which then stays fixed", this.seed)];
    this.form.append(element("p", "", WHY_KEEP), ...fields, this.message, this.send);
  }

  open() {
    this.show();
    this.name.select();
  }

  async make() {
    const name = this.name.value.trim();
    if (!name) throw new Error("run_name is empty, so the film would not be kept. Type a name.");
    if ((await ask(TAKES, { run_name: name })).takes.length) {
      throw new Error(`There is a run ${name} already. Choose another name, or set run_name to it to go on with it.`);
    }
    const widgets = samplerWidgets(this.node);
    setWidget(widgets.name, name);
    setSeed(this.node, widgets.seed, Number(this.seed.value));
    setWidget(widgets.fromChunk, -1);
    remember();
    await queueOnce();
  }
}

/** For a kept run. */
class MakeForm extends Form {
  constructor(node, title, { run, film, chunk, second }) {
    super(node, title, "Make again");
    Object.assign(this, { run, film, chunk, second });
    this.schedule = scheduleNodeOf(node);
    this.offered = undefined; // the prompt that holds on the chunk
    this.isSure = false;
    this.seed = seedField(Math.floor(Math.random() * MOST_SEED));
    this.prompt = element("textarea", "hf-field-input");
    this.prompt.rows = 4;
    this.prompt.spellcheck = false;
    this.kept = run.seeds_as_text.findLast(([first]) => first <= chunk)?.[1];
    const kept = "The film as it is now is kept beside it as a take. Then from_chunk is -1 again.";
    const later = isGoneOnFrom(node) ? [element("p", "", LATER)] : [];
    const seed = field(`Seed, which then stays fixed (the film has ${this.kept})`, this.seed);
    const prompt = field("Prompt from here to the next scene", this.prompt);
    this.form.append(element("p", "", `${madeAnew(chunk, film.chunks - 1)} ${kept}`), ...later, seed, prompt, this.message, this.send);
  }

  async open() {
    const { question } = this.schedule ? scheduleQuestion(this.schedule, this.node) : {};
    const asked = question && ask(SCHEDULE, question).catch(() => undefined);
    const [answer, { queue_running: running = [] } = {}] = await Promise.all([asked, answerTo("/queue")]);
    const scene = answer?.scenes?.findLast((each) => each.chunk <= this.chunk);
    // a prompt that was typed before goes on, those from here on are left out
    const live = this.film.scenes.findLast((each) => each.live && each.chunk < this.chunk);
    this.offered = scene && live?.chunk > scene.chunk ? live.prompt : scene?.prompt;
    this.prompt.disabled = this.offered === undefined;
    this.prompt.value = this.offered ?? (this.schedule ? UNREADABLE : NO_TEXT);
    if (running.length) this.say(WAITS);
    this.show();
    this.seed.select();
  }

  async make() {
    const seed = Number(this.seed.value);
    const prompt = this.prompt.value.trim();
    const isOther = this.offered !== undefined && prompt !== this.offered.trim();
    if (isOther && !prompt) throw new Error("The prompt is empty. Type what is to be seen, or leave it as it was.");
    if (String(seed) === this.kept && !isOther && !this.isSure) {
      this.isSure = true; // the text may have been changed by hand
      throw new Error(SAME);
    }
    if (isOther) {
      const edit = { kind: "scene_at", second: this.second, prompt };
      await editSchedule(this.schedule, edit, { sampler: this.node });
      this.offered = prompt;
    }
    const widgets = samplerWidgets(this.node);
    setSeed(this.node, widgets.seed, seed);
    setWidget(widgets.onExisting, "resume");
    setWidget(widgets.fromChunk, this.chunk);
    try {
      await queueOnce();
    } finally {
      setWidget(widgets.fromChunk, -1); // or every Run with another seed would be another take
      remember();
    }
  }
}

/** Which chunks are made anew from one on. */
function madeAnew(chunk, last) {
  if (!chunk) return `All chunks, 0 to ${last}, are made anew.`;
  const made = chunk < last ? `Chunks ${chunk} to ${last} are made anew, to the end` : `Chunk ${chunk} is made anew`;
  return `${made}; those before stay.`;
}

const field = (label, input) => element("label", "hf-field", element("span", "hf-field-name", label), input);
