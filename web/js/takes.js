// Takes of a film that is kept: made again from a chunk of its strip, listed, compared, chosen (docs/takes.md).
import { ask } from "./ask.js";
import { openMenu, tell } from "./dialog.js";
import { element } from "./elements.js";
import { valueOf } from "./graph_walk.js";
import { openMakeAgain } from "./make_again.js";
import { openTakes } from "./take_list.js";

const ROUTE = "/head_forcing/takes";

/** The takes of one sampler. `look()` asks when the run's name has changed and then stayed; `refresh()` asks anew. */
export class Takes {
  #node;
  #strip;
  #name; // that was asked for
  #seen = "";

  constructor(node, strip) {
    this.#node = node;
    this.#strip = strip;
    this.element = element("button", "hf-takes-open");
    this.element.type = "button";
    this.element.title = "See the takes of this film side by side, and choose one.";
    this.element.hidden = true;
    this.element.addEventListener("click", () => this.#open());
    strip.element.addEventListener("hf-chunk-menu", ({ detail }) => this.#menu(detail));
  }

  look() {
    const name = String(valueOf(this.#node, "run_name") ?? "").trim();
    if (name === this.#seen && name !== this.#name) this.refresh();
    this.#seen = name;
  }

  async refresh() {
    const name = (this.#name = this.#seen);
    const takes = name ? await this.#read().catch(() => []) : []; // whoever opens the list is told
    if (name !== this.#name) return;
    const count = takes.filter((take) => !take.is_run).length;
    this.element.textContent = `Takes (${count})`;
    this.element.hidden = !count;
  }

  async #read() {
    return (await ask(ROUTE, { run_name: this.#name })).takes;
  }

  #open() {
    const changed = () => {
      this.#strip.refresh();
      this.refresh();
    };
    openTakes(this.#node, this.#name, () => this.#read(), changed).catch((error) => tell("Takes", error.message));
  }

  #menu({ chunk, second, x, y }) {
    const film = this.#strip.shown();
    const before = film.scenes[0]?.second ?? 0; // the schedule does not count what the video goes on from
    const make = () => openMakeAgain(this.#node, film, chunk, second - before);
    const items = [["Make again from here \u2026", make]];
    if (!this.element.hidden) items.push(["Takes \u2026", () => this.#open()]);
    openMenu(x, y, items);
  }
}
