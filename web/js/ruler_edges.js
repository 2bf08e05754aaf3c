// The edges between the scenes of a ruler: dragged, or moved by keys, from one start of a chunk to another. The text is
// written when an edge is let go.
import { clock, part, percent } from "./ruler_parts.js";

const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
const FAR = 10; // chunks, with Shift
const LEAST_PIXELS = 4; // from one line to the next where the starts of chunks are drawn

/** The edges of one ruler. `onEdit(edit)` takes an edit of the schedule, `onMenu(index)` opens the menu of a scene,
 * `onRest()` hears that an edge was let go where it was. While `isHeld`, they are not to be arranged anew. */
export class RulerEdges {
  constructor(onEdit, onMenu, onRest) {
    Object.assign(this, { onEdit, onMenu, onRest });
    this.isHeld = false;
    this.label = part("div", "at");
    this.lines = part("div", "grid");
    this.dragged = undefined; // the pointer that drags
  }

  /** Give every scene but the first an edge. */
  arrange(list, { scenes }, length, grid) {
    Object.assign(this, { list, scenes, length, grid, now: [...grid.chunks], dragged: undefined });
    [...list.children].slice(1).forEach((item, at) => item.prepend(this.#edge(at + 1)));
  }

  #edge(index) {
    const edge = part("div", "edge");
    edge.tabIndex = 0;
    edge.setAttribute("role", "slider");
    edge.setAttribute("aria-orientation", "horizontal");
    edge.setAttribute("aria-label", `Start of scene ${index + 1}`);
    edge.setAttribute("aria-valuemin", this.grid.movable(index, 0));
    edge.setAttribute("aria-valuemax", this.grid.movable(index, this.grid.nearest(this.length)));
    edge.title = "Drag, or press an arrow key: a chunk; with Shift, ten. Delete removes the scene, Enter opens its menu.";
    this.#tell(edge, index);
    edge.addEventListener("pointerdown", (event) => this.#grab(edge, index, event));
    edge.addEventListener("pointermove", (event) => {
      if (this.dragged === event.pointerId) this.#place(edge, index, this.grid.nearest(this.#second(event)));
    });
    edge.addEventListener("pointerup", () => this.#letGo(index));
    edge.addEventListener("pointercancel", () => this.#giveUp(edge, index));
    edge.addEventListener("keydown", (event) => this.#press(edge, index, event));
    edge.addEventListener("keyup", ({ key }) => key in KEYS && this.#letGo(index));
    edge.addEventListener("blur", () => this.dragged === undefined && this.#letGo(index));
    return edge;
  }

  /** The second under a pointer, whatever the scale of the page's canvas. */
  #second({ clientX }) {
    const { left, width } = this.list.getBoundingClientRect();
    return ((clientX - left) / width) * this.length;
  }

  #grab(edge, index, event) {
    event.stopPropagation(); // it moves the scene, not the node
    if (event.button !== 0) return;
    event.preventDefault();
    edge.focus({ preventScroll: true });
    edge.setPointerCapture(event.pointerId);
    this.dragged = event.pointerId;
    this.isHeld = true;
    this.#show(index);
  }

  #press(edge, index, event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in KEYS) this.#place(edge, index, this.now[index] + KEYS[event.key] * (event.shiftKey ? FAR : 1));
    else if (event.key === "Escape") this.#giveUp(edge, index);
    else if (event.key === "Delete" || event.key === "Backspace") this.#remove(edge, index);
    else if (event.key === "Enter" || event.key === " ") this.onMenu(index);
    else return;
    event.preventDefault();
  }

  #remove(edge, index) {
    const { line } = this.scenes[index];
    this.#giveUp(edge, index); // or it would be moved when its key or the pointer is let go
    this.onEdit({ kind: "delete", line });
  }

  /** Draw an edge, and the scenes beside it, where it would be let go. */
  #place(edge, index, wanted) {
    const [before, item] = [this.list.children[index - 1], this.list.children[index]];
    const right = parseFloat(item.style.left) + parseFloat(item.style.width);
    this.isHeld = true;
    this.now[index] = this.grid.movable(index, wanted);
    const left = percent(Math.min(this.grid.start(this.now[index]), this.length), this.length);
    item.style.left = left;
    item.style.width = `${Math.max(0, right - parseFloat(left))}%`;
    before.style.width = `${parseFloat(left) - parseFloat(before.style.left)}%`;
    this.#tell(edge, index);
    this.#show(index);
  }

  #tell(edge, index) {
    const chunk = this.now[index];
    edge.setAttribute("aria-valuenow", chunk);
    edge.setAttribute("aria-valuetext", `${clock(this.grid.start(chunk))}, chunk ${chunk}`);
  }

  #show(index) {
    const { step, lead } = this.grid;
    const second = this.grid.start(this.now[index]);
    this.label.textContent = `${clock(second)}, chunk ${this.now[index]}`;
    this.label.style.left = percent(second, this.length);
    this.label.classList.toggle("hf-ruler-left", second > this.length / 2);
    this.list.append(this.label);
    if ((this.list.clientWidth * step) / this.length < LEAST_PIXELS) return;
    const [from, to] = [percent(lead, this.length), percent(lead + step, this.length)];
    const line = `var(--input-text) ${from} calc(${from} + 1px), transparent calc(${from} + 1px) ${to}`;
    this.lines.style.backgroundImage = `repeating-linear-gradient(90deg, ${line})`;
    this.list.append(this.lines);
  }

  #letGo(index) {
    this.dragged = undefined;
    this.isHeld = false;
    this.label.remove();
    this.lines.remove();
    const chunk = this.now[index];
    if (chunk === this.grid.chunks[index]) {
      this.onRest();
      return;
    }
    this.grid.chunks[index] = chunk; // until the text is read anew
    this.onEdit({ kind: "move", line: this.scenes[index].line, second: this.grid.start(chunk) });
  }

  #giveUp(edge, index) {
    this.#place(edge, index, this.grid.chunks[index]);
    this.#letGo(index);
  }
}
