// The picture of a film strip: a cell a chunk under the bars of its scenes. Only what is in view is in the page.
import { clock } from "./clock.js";
import { element } from "./elements.js";
import { spoken } from "./strip_words.js";

const LONGEST_SIDE = 64; // pixels of a cell
const BEYOND = 4; // cells that are drawn to each side of the view
const MOST_CELLS = 180;
const COLOURS = 6; // of scenes, in film_strip.css

/** The strip of `chunks`. `onScroll()` hears that other chunks are in view. */
export class StripView {
  #chunks;
  #cells = new Map(); // by chunk
  #bars = new Map(); // by scene
  #size = [LONGEST_SIDE, (LONGEST_SIDE * 9) / 16];
  #sized; // the run whose pictures the size is of

  constructor(chunks, onScroll) {
    this.#chunks = chunks;
    this.bars = element("div", "hf-strip-bars");
    this.list = element("div", "hf-strip-cells");
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-orientation", "horizontal");
    this.list.setAttribute("aria-label", "Chunks of the film");
    this.line = element("div", "hf-strip-line");
    this.track = element("div", "hf-strip-track", this.bars, this.list, this.line);
    this.window = element("div", "hf-strip-window", this.track);
    this.window.addEventListener("scroll", onScroll);
    this.before = element("span", "hf-strip-count hf-strip-before");
    this.after = element("span", "hf-strip-count hf-strip-after");
    this.element = element("div", "hf-strip-frame", this.window, this.before, this.after);
    new ResizeObserver(onScroll).observe(this.window);
  }

  /** The first and the last chunk that is in view. */
  range() {
    const [width] = this.#size;
    const { scrollLeft, clientWidth } = this.window;
    return [Math.floor(scrollLeft / width), Math.ceil((scrollLeft + clientWidth) / width) - 1];
  }

  /** The cell of a chunk that is drawn. */
  cellOf(chunk) {
    return this.#cells.get(chunk);
  }

  /** Scroll as little as brings a chunk into view. */
  reveal(chunk) {
    const [width] = this.#size;
    const { scrollLeft, clientWidth } = this.window;
    const left = chunk * width;
    if (left < scrollLeft) this.window.scrollLeft = left;
    else if (left + width > scrollLeft + clientWidth) this.window.scrollLeft = left + width - clientWidth;
  }

  /** Draw what is in view: `current` is the chunk that keys move from, `hovered` the one whose past lights up, and
   * `place` where the video plays, in chunks. */
  draw({ current, hovered, place }) {
    const { run } = this.#chunks;
    const [width, height] = this.#size;
    this.element.style.setProperty("--hf-cell-width", `${width}px`);
    this.element.style.setProperty("--hf-cell-height", `${height}px`);
    this.element.style.setProperty("--hf-strip-width", `${this.window.clientWidth}px`);
    this.track.style.width = `${run.chunks * width}px`;
    const [first, last] = this.range();
    this.#drawBars(first, last);
    this.#drawCells(Math.max(0, first - BEYOND), Math.min(last + BEYOND, run.made - 1), current);
    this.#drawReads(this.#chunks.entry(hovered)?.reads ?? [], first, last);
    this.line.hidden = place === undefined;
    if (place !== undefined) this.line.style.left = `${place * width}px`;
  }

  #drawCells(from, until, current) {
    const to = Math.min(until, from + MOST_CELLS - 1);
    for (const [chunk, cell] of this.#cells) {
      if ((chunk >= from && chunk <= to) || (chunk === current && chunk < this.#chunks.run.made)) continue;
      cell.remove();
      this.#cells.delete(chunk);
    }
    for (let chunk = from; chunk <= to; chunk += 1) this.#drawCell(chunk, current);
    if (current < this.#chunks.run.made) this.#drawCell(current, current); // the focus stays on it
  }

  #drawCell(chunk, current) {
    const cell = this.#cells.get(chunk) ?? this.#newCell(chunk);
    cell.tabIndex = chunk === current ? 0 : -1;
    cell.setAttribute("aria-selected", chunk === current);
    cell.setAttribute("aria-setsize", this.#chunks.run.made);
    const [entry, scene] = [this.#chunks.entry(chunk), this.#chunks.sceneOf(chunk)];
    cell.style.left = `${chunk * this.#size[0]}px`;
    if (cell.scene === scene && cell.entry === entry) return;
    if (cell.entry?.picture !== entry?.picture) this.#fill(cell, entry?.picture);
    [cell.scene, cell.entry] = [scene, entry];
    cell.classList.toggle("hf-strip-picked", Boolean(entry?.picked));
    cell.setAttribute("aria-label", spoken(chunk, this.#chunks.secondOf(chunk), entry, scene));
  }

  #newCell(chunk) {
    const cell = element("div", "hf-strip-cell");
    cell.setAttribute("role", "option");
    cell.setAttribute("aria-posinset", chunk + 1);
    cell.dataset.chunk = chunk;
    this.#cells.set(chunk, cell);
    this.list.append(cell);
    return cell;
  }

  #fill(cell, data) {
    cell.replaceChildren();
    if (!data) return;
    const picture = element("img", "hf-strip-picture");
    picture.alt = "";
    picture.draggable = false;
    picture.decoding = "async";
    picture.addEventListener("load", () => this.#fit(picture), { once: true });
    picture.src = `data:image/jpeg;base64,${data}`;
    cell.append(picture);
  }

  // the pictures of a run have one shape
  #fit({ naturalWidth: width, naturalHeight: height }) {
    const { run } = this.#chunks.run;
    if (this.#sized === run) return;
    this.#sized = run;
    const scale = LONGEST_SIDE / Math.max(width, height);
    const [first] = this.range();
    this.#size = [Math.round(width * scale), Math.round(height * scale)];
    this.window.scrollLeft = first * this.#size[0];
    this.window.dispatchEvent(new Event("scroll"));
  }

  #drawBars(first, last) {
    const { scenes, chunks } = this.#chunks.run;
    const drawn = new Set();
    scenes.forEach((scene, index) => {
      const end = scenes[index + 1]?.chunk ?? chunks;
      if (scene.chunk > last || end <= first) return;
      drawn.add(scene);
      const bar = this.#bars.get(scene) ?? this.#newBar(scene, index);
      bar.style.left = `${scene.chunk * this.#size[0]}px`;
      bar.style.width = `${(end - scene.chunk) * this.#size[0]}px`;
    });
    for (const [scene, bar] of this.#bars) {
      if (drawn.has(scene)) continue;
      bar.remove();
      this.#bars.delete(scene);
    }
  }

  #newBar(scene, index) {
    const how = scene.live ? "live" : (scene.transition ?? "");
    const text = element("span", "hf-strip-prompt", scene.prompt);
    if (scene.live) text.prepend(element("b", "hf-strip-live", "live"), " ");
    const bar = element("div", "hf-strip-bar", text);
    bar.dataset.colour = index % COLOURS;
    bar.dataset.chunk = scene.chunk;
    bar.title = `${clock(scene.second)}, chunk ${scene.chunk}${how && `, ${how}`}\n${scene.prompt}`;
    this.#bars.set(scene, bar);
    this.bars.append(bar);
    return bar;
  }

  #drawReads(reads, first, last) {
    for (const [chunk, cell] of this.#cells) {
      cell.classList.toggle("hf-strip-read", reads.some(([from, to]) => chunk >= from && chunk <= to));
    }
    const before = reads.reduce((sum, [from, to]) => sum + Math.max(0, Math.min(to, first - 1) - from + 1), 0);
    const after = reads.reduce((sum, [from, to]) => sum + Math.max(0, to - Math.max(from, last + 1) + 1), 0);
    this.before.textContent = before || "";
    this.after.textContent = after || "";
  }
}

// Vue nodes hand a wheel to the canvas on its way down, so this is heard before
window.addEventListener("wheel", scroll, { capture: true, passive: false });

function scroll(event) {
  const view = event.target.closest?.(".hf-strip-window");
  if (!view || event.ctrlKey || event.metaKey || view.scrollWidth <= view.clientWidth) return; // zooms, as elsewhere
  event.preventDefault();
  event.stopPropagation();
  view.scrollLeft += event.deltaX || event.deltaY;
}
