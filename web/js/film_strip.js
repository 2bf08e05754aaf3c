// The film on its sampler: a small picture a chunk as it is made, what each chunk read of the past, and a player.
import { clock } from "./clock.js";
import { element } from "./elements.js";
import { StripChunks } from "./strip_chunks.js";
import { StripPlayer } from "./strip_player.js";
import { StripView } from "./strip_view.js";
import { readText } from "./strip_words.js";

const PAGE = 10; // chunks
const NO_VIDEO = "there is no video of it; connect vae, and use the video output or a run_name";

/** The strip of one sampler. `hearChunk(detail)` takes the host's event head_forcing.chunk. A chunk's menu is others'
 * work: they hear "hf-chunk-menu" of the element. */
export class FilmStrip {
  #chunks;
  #view;
  #player;
  #current = 0; // the chunk that has the focus
  #hovered; // undefined: none
  #isByKey = false; // since the pointer last moved: what scrolls under it is not hovered
  #isWaiting = false; // to be drawn
  #message = "";

  constructor(node) {
    this.#chunks = new StripChunks(node, () => this.#draw());
    this.#view = new StripView(this.#chunks, () => this.#draw());
    this.#player = new StripPlayer(() => this.#chunks.run, () => this.#followVideo());
    this.told = element("p", "hf-strip-told");
    this.element = element("div", "hf-strip", this.#view.element, this.told, this.#player.element);
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", "Film strip");
    this.element.hidden = true;
    this.#listen();
  }

  hearChunk(detail) {
    const { run } = this.#chunks;
    const [first, last] = this.#view.range();
    const isAtEnd = run.run !== detail.run || (run.made - 1 >= first && run.made - 1 <= last);
    const isLeft = !this.element.matches(":hover, :focus-within") && !this.#player.isPlaying;
    if (run.run !== detail.run) this.#begin();
    this.#chunks.hear(detail);
    if (isAtEnd && isLeft) requestAnimationFrame(() => this.#view.reveal(detail.made - 1));
  }

  /** Ask for the scenes and the video as they are now. */
  update() {
    return this.#chunks.update();
  }

  /** Ask anew for all that there is: another run's name may stand on the node, or an event have been missed. */
  refresh() {
    this.#message = "";
    return this.#chunks.refresh(Math.max(0, this.#view.range()[0]));
  }

  /** Close the player, and let go of the file. */
  closePlayer() {
    this.#player.shut();
  }

  /** What is known of the run: {run, chunks, made, fps, scenes, video}. */
  shown() {
    return this.#chunks.run;
  }

  #begin() {
    this.#current = 0;
    this.#hovered = undefined;
    this.#message = "";
    this.#view.window.scrollLeft = 0;
  }

  #draw() {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    requestAnimationFrame(() => {
      this.#isWaiting = false;
      this.#drawNow();
    });
  }

  #drawNow() {
    const { run, made } = this.#chunks.run;
    this.element.hidden = run === null;
    if (!this.#view.window.clientWidth) return; // hidden, or not in the page at the moment
    this.#current = Math.max(0, Math.min(this.#current, made - 1)); // another run may be shorter
    const { second } = this.#player;
    const place = second === undefined ? undefined : this.#chunks.placeOf(second);
    this.#view.draw({ current: this.#current, hovered: this.#hovered ?? this.#focused, place });
    this.#chunks.fill(...this.#view.range());
    const text = this.#line();
    if (this.told.textContent !== text) this.told.textContent = text;
  }

  get #focused() {
    return this.#view.list.contains(document.activeElement) ? this.#current : undefined;
  }

  #line() {
    const chunk = this.#hovered ?? this.#focused;
    const { made, chunks } = this.#chunks.run;
    if (this.#chunks.problem) return this.#chunks.problem;
    if (this.#message) return this.#message;
    if (chunk === undefined) return `${made} of ${chunks} chunks.${made ? " Click one to play from there." : ""}`;
    const entry = this.#chunks.entry(chunk);
    const when = `${clock(this.#chunks.secondOf(chunk))}, chunk ${chunk}`;
    if (!entry) return when;
    return `${when}: reads ${readText(entry.reads)}${entry.picked ? "; memory made a choice here" : ""}`;
  }

  #listen() {
    const { window: view, list, bars } = this.#view;
    list.addEventListener("pointermove", (event) => {
      if (event.movementX || event.movementY) this.#isByKey = false;
      this.#hover(chunkOf(event));
    });
    list.addEventListener("pointerover", (event) => this.#hover(chunkOf(event))); // it may have scrolled there
    list.addEventListener("pointerleave", () => this.#hover(undefined));
    list.addEventListener("click", (event) => this.#playFrom(chunkOf(event)));
    bars.addEventListener("click", (event) => this.#moveTo(chunkOf(event) ?? this.#current));
    list.addEventListener("focusin", (event) => {
      this.#current = chunkOf(event);
      this.#draw();
    });
    list.addEventListener("focusout", () => this.#draw());
    list.addEventListener("keydown", (event) => this.#key(event));
    list.addEventListener("contextmenu", (event) => this.#menuByHand(event));
    for (const part of [view, this.#player.element]) {
      part.addEventListener("pointerdown", (event) => event.button === 1 || event.stopPropagation()); // moves no node
    }
  }

  #hover(under) {
    const chunk = this.#isByKey ? undefined : under;
    if (chunk === this.#hovered) return;
    this.#hovered = chunk;
    if (chunk !== undefined) this.#message = "";
    this.#draw();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [by, last] = [this.#chunkPlaying ?? this.#current, this.#chunks.run.made - 1];
    const moves = { ArrowLeft: by - 1, ArrowRight: by + 1, PageUp: by - PAGE, PageDown: by + PAGE, Home: 0, End: last };
    if (event.key in moves) this.#moveTo(Math.min(Math.max(0, moves[event.key]), last));
    else if (event.key === "Enter" || event.key === " ") this.#playOrPause();
    else if (event.key === "ContextMenu" || (event.key === "F10" && event.shiftKey)) this.#menuByKey();
    else return;
    this.#isByKey = true;
    this.#hover(undefined);
    event.preventDefault();
  }

  get #chunkPlaying() {
    return this.#player.isPlaying ? this.#chunkShown : undefined;
  }

  get #chunkShown() {
    const { second } = this.#player;
    const { made } = this.#chunks.run;
    return second === undefined ? undefined : Math.min(Math.floor(this.#chunks.placeOf(second) + 1e-3), made - 1);
  }

  #moveTo(chunk) {
    this.#focus(chunk);
    if (this.#player.second !== undefined && this.#hasVideo(chunk)) this.#go(chunk, false);
  }

  #focus(chunk) {
    this.#current = chunk; // so that its cell is there
    this.#message = "";
    this.#view.reveal(chunk);
    this.#drawNow();
    this.#view.cellOf(chunk)?.focus({ preventScroll: true });
  }

  #playFrom(chunk) {
    if (chunk === undefined) return;
    this.#focus(chunk);
    if (this.#hasVideo(chunk)) this.#go(chunk, true);
  }

  #playOrPause() {
    if (this.#chunkPlaying !== undefined) {
      this.#player.toggle();
      this.#focus(this.#chunkShown);
    } else if (this.#chunkShown === this.#current && !this.#player.hasEnded) {
      this.#player.toggle();
    } else {
      this.#playFrom(this.#current);
    }
  }

  #go(chunk, plays) {
    this.#player.go(this.#chunks.secondOf(chunk), plays);
  }

  #hasVideo(chunk) {
    const second = this.#chunks.secondOf(chunk);
    const when = `${clock(second)}, chunk ${chunk}`;
    if (!this.#chunks.run.video) this.#message = `${when}: ${NO_VIDEO}.`;
    else if (!this.#player.isThere(second)) this.#message = `${when}: not in the video yet.`;
    if (this.#message) this.#draw();
    return !this.#message;
  }

  #followVideo() {
    const chunk = this.#chunkPlaying;
    if (chunk !== undefined && !this.#view.element.matches(":hover")) this.#view.reveal(chunk);
    this.#draw();
  }

  #menuByHand(event) {
    const chunk = chunkOf(event);
    if (chunk === undefined) return;
    event.preventDefault();
    event.stopPropagation(); // the node has one of its own
    if (event.pointerType !== "") this.#askForMenu(chunk, event.clientX, event.clientY); // else it was a key
  }

  #menuByKey() {
    const { left, bottom } = this.#view.cellOf(this.#current).getBoundingClientRect();
    this.#askForMenu(this.#current, left, bottom);
  }

  #askForMenu(chunk, x, y) {
    const detail = { chunk, second: this.#chunks.secondOf(chunk), x, y };
    this.element.dispatchEvent(new CustomEvent("hf-chunk-menu", { bubbles: true, detail }));
  }
}

function chunkOf(event) {
  const found = event.target.closest("[data-chunk]");
  return found ? Number(found.dataset.chunk) : undefined;
}
