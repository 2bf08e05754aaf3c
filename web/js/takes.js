// Takes of a film that is kept: made again from a chunk of its strip, listed, compared, chosen (docs/takes.md).
import { ask } from "./ask.js";
import { openMenu, tell } from "./dialog.js";
import { element } from "./elements.js";
import { openMakeAgain } from "./make_again.js";
import { keptNameOf } from "./scene_runs.js";
import { openTakes } from "./take_list.js";

const ROUTE = "/head_forcing/takes";

/** The takes of one sampler, whose film is shown by `strip`. `refresh()` asks how many there are. */
export class Takes {
  #node;
  #strip;
  #name = "";

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

  async refresh() {
    const name = (this.#name = keptNameOf(this.#node, this.#strip.shown().run));
    const takes = name ? await this.#read().catch(() => undefined) : [];
    if (name !== this.#name) return;
    const count = takes?.filter((take) => !take.is_run).length;
    this.element.textContent = takes ? `Takes (${count})` : "Takes"; // whoever opens the list is told why not
    this.element.hidden = count === 0;
  }

  async #read() {
    return (await ask(ROUTE, { run_name: this.#name })).takes;
  }

  #open() {
    const hooks = {
      read: () => this.#read(),
      onChoice: () => this.#strip.closePlayer(), // or the system may hold on to a folder with an open file
      onChange: () => {
        this.#strip.refresh();
        this.refresh();
      },
    };
    openTakes(this.#node, this.#name, hooks).catch((error) => tell("Takes", error.message));
  }

  #menu({ chunk, second, x, y }) {
    const make = () => openMakeAgain(this.#node, this.#strip.shown(), chunk, second);
    const items = [["Make again from here \u2026", make]];
    if (!this.element.hidden) items.push(["Takes \u2026", () => this.#open()]);
    openMenu(x, y, items);
  }
}
