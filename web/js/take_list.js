// The takes of a kept film: a list, two of them in step, and one that is made the film.
import { ask } from "./ask.js";
import { clock } from "./clock.js";
import { openDialog, tell } from "./dialog.js";
import { element } from "./elements.js";
import { isLinked } from "./graph_walk.js";
import { samplerWidgets, setSeed, setWidget } from "./sampler_widgets.js";
import { scheduleNodeOf } from "./schedule_edit.js";
import { scheduleQuestion } from "./schedule_question.js";
import { remember, writeText } from "./text_box.js";
import { TwoPlayers } from "./two_players.js";

const CHOOSE = "/head_forcing/choose_take";
const SCHEDULE = "/head_forcing/schedule";
const STEP = 1 / 16; // seconds by an arrow key; with Shift
const BIG_STEP = 1;
const LONGEST_PROMPT = 80; // letters in the table; all of it stands below
const TOO_LONG =
  "more digits than ComfyUI's page can hold. Run it from a script (docs/takes.md), or make it again from a chunk with " +
  "another seed.";

/** Open the list. `read()` gives the takes as /head_forcing/takes has them; `onChoice()` hears that one is going to be
 * chosen, `onChange()` that another one is the film. */
export async function openTakes(node, name, hooks) {
  const list = new TakeList(node, name, hooks);
  await list.refresh();
  list.open();
}

class TakeList {
  #takes = [];

  constructor(node, name, hooks) {
    Object.assign(this, { node, name, ...hooks });
    this.rows = element("tbody", "");
    const heads = ["Take", "Chunks", "Differs from the film", "Prompt there", "Seed", ""].map((text) => element("th", "", text));
    this.table = element("table", "hf-takes-table", element("thead", "", element("tr", "", ...heads)), this.rows);
    this.message = element("p", "hf-dialog-told");
    this.message.setAttribute("role", "status");
    this.picks = ["A", "B"].map((letter) => this.#pick(letter));
    this.texts = this.picks.map(() => element("pre", "hf-takes-text"));
    const below = this.picks.map((pick, side) => element("div", "hf-takes-below", pick, this.texts[side]));
    this.players = new TwoPlayers(below);
  }

  open() {
    const inside = [element("div", "hf-takes-list", this.table), this.message, this.players.element];
    this.dialog = openDialog(`Takes of ${this.name}`, inside, () => this.players.release());
    this.dialog.classList.add("hf-takes");
    this.dialog.addEventListener("keydown", (event) => this.#key(event));
    this.#compare();
    this.players.play.focus();
  }

  async refresh() {
    this.#takes = await this.read();
    if (!this.#takes.length) throw new Error(`There is no run ${this.name} any more.`);
    this.rows.replaceChildren(...this.#takes.map((take) => this.#row(take)));
    this.picks.forEach((pick, side) => {
      const before = pick.value;
      const named = ({ name, is_run: isRun }) => new Option(isRun ? `${name}, the film` : name, name);
      pick.replaceChildren(...this.#takes.map(named));
      const newest = this.#takes[side ? this.#takes.length - 1 : 0]?.name;
      pick.value = this.#takes.some((take) => take.name === before) ? before : newest;
    });
  }

  #pick(letter) {
    const pick = element("select", "hf-field-input");
    pick.setAttribute("aria-label", `${letter} is`);
    pick.addEventListener("change", () => this.#compare());
    return pick;
  }

  #row({ name, is_run: isRun, chunks, seeds_as_text: seeds, problem, ...differing }) {
    const { differs_from: from, differs_second: second, differs_prompt: prompt } = differing;
    const differs = from === null ? "" : `from chunk ${from}${second === null ? "" : ` (${clock(second)})`}`;
    const told = seeds.map(([first, seed]) => (first ? `${seed} from chunk ${first}` : seed)).join(", ");
    const last = element("td", "");
    if (isRun) last.append("the film");
    else if (!problem) {
      const choose = element("button", "hf-takes-choose", "Choose");
      choose.type = "button";
      choose.setAttribute("aria-label", `Choose ${name}`);
      choose.addEventListener("click", () => this.#choose(name, seeds.at(-1)[1]));
      last.append(choose);
    }
    const cells = problem ? [name, problem, "", "", ""] : [name, String(chunks), differs, shortened(prompt), told];
    const row = element("tr", isRun ? "hf-takes-run" : "", ...cells.map((text) => element("td", "", text)), last);
    if (problem) row.classList.add("hf-error");
    return row;
  }

  /** Show what A and B are, from a little before they begin to differ. */
  #compare() {
    const both = this.picks.map((pick) => this.#takes.find((take) => take.name === pick.value));
    const differing = both.map((take) => take?.differs_second ?? Infinity);
    const first = Math.min(...differing);
    const begin = Number.isFinite(first) ? Math.max(0, first - BIG_STEP) : 0;
    this.players.show(both.map((take) => take?.video ?? null), begin);
    both.forEach((take, side) => {
      this.texts[side].textContent = take?.schedule ?? "";
    });
  }

  async #choose(take, seed) {
    this.players.play.focus(); // a button that is disabled has it no more, and keys would reach the canvas
    const buttons = [...this.rows.querySelectorAll("button")];
    buttons.forEach((button) => (button.disabled = true));
    this.players.release(); // or the system may hold on to a folder with an open file
    this.onChoice();
    const most = Math.max(...this.#takes.map(({ chunks }) => chunks));
    const isWhole = this.#takes.find(({ name }) => name === take).chunks === most;
    try {
      const { kept_as: kept, schedule } = await ask(CHOOSE, { run_name: this.name, take });
      this.onChange();
      const told = await goOnWith(this.node, seed, schedule, isWhole).catch((error) => [error.message]);
      const undo = `The film as it was is ${kept}: choose that to undo this.`;
      this.#say(["The take is the film now.", ...told, undo].join(" "));
    } catch (error) {
      this.#say(error.message, true);
    }
    await this.refresh().catch((error) => this.#say(error.message, true));
    if (this.dialog.open) this.#compare();
  }

  #say(text, failed = false) {
    if (failed && !this.dialog.open) tell(`Takes of ${this.name}`, text); // it was closed meanwhile
    this.message.textContent = text;
    this.message.classList.toggle("hf-error", failed);
  }

  #key(event) {
    const { key, shiftKey, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isField = target.matches("select, input");
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (key.toLowerCase() === "x") this.players.swapSides();
    else if (key === " " && !target.matches("select, button")) this.players.toggle();
    else if (step && !isField) this.players.move(step * (shiftKey ? BIG_STEP : STEP));
    else return;
    event.preventDefault();
  }
}

const shortened = (text) => (text?.length > LONGEST_PROMPT ? `${text.slice(0, LONGEST_PROMPT)} ...` : (text ?? ""));

/** Set the nodes so that Run goes on with a take, without a step where it is whole. Sentences on that, or on what could
 * not be set. */
async function goOnWith(node, seed, schedule, isWhole) {
  const { seed: seedWidget, fromChunk, onExisting } = samplerWidgets(node);
  const told = [];
  if (!seedWidget) told.push(`Set seed to ${seed} where it comes from.`);
  else if (String(Number(seed)) !== seed) told.push(`Its seed is ${seed}: ${TOO_LONG}`);
  else setSeed(node, seedWidget, Number(seed));
  if (fromChunk) setWidget(fromChunk, -1);
  else told.push("Set from_chunk to -1 where it comes from.");
  if (onExisting) setWidget(onExisting, "resume");
  else told.push("Set on_existing_run to resume where it comes from.");
  const text = scheduleNodeOf(node);
  if (schedule !== null ? !text : isLinked(node, "schedule")) {
    told.push("Its prompts could not be set: put them where they come from.");
  }
  remember();
  const ifSame = text ? "" : ", if positive is what it was";
  const press = isWhole ? "Press Run to get its video; it takes seconds" : "Press Run to make the chunks that it lacks";
  if (!told.length) told.push(`${press}${ifSame}.`);
  if (text && schedule !== null && !(await isSame(text, schedule, node))) {
    await writeText(text, "text", schedule);
    told.push("Prompt Schedule has its prompts.");
  }
  return told;
}

/** Whether the text of a Prompt Schedule gives a sampler the same scenes as another text. */
async function isSame(node, text, sampler) {
  const { question } = scheduleQuestion(node, sampler);
  const fading = node.widgets.find((widget) => widget.name === "soft_chunks")?.value;
  const scenes = async (asked) => {
    const { scenes: found } = await ask(SCHEDULE, { ...question, text: asked });
    const told = found?.map(({ chunk, transition, soft_chunks: soft, prompt }) => {
      return [chunk, transition, transition === "soft" ? (soft ?? fading) : null, prompt];
    });
    return told && JSON.stringify(told);
  };
  const [now, kept] = await Promise.all([question.text, text].map(scenes));
  return now !== undefined && now === kept;
}
