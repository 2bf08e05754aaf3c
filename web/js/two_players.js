// Two videos in step: one button and one bar for both, side by side or one in the place of the other.
import { clock } from "./clock.js";
import { element } from "./elements.js";
import { addressOf, whyNot } from "./video_file.js";

const APART = 0.08; // seconds by which one may be behind before it is put right
const NO_VIDEO = "No video is kept of this take. Connect a vae, choose it and Run: its chunks are decoded.";

const VIEWS = [
  { text: "A", only: 0, title: "A alone. X: A and B in turn" },
  { text: "B", only: 1, title: "B alone. X: A and B in turn" },
  { text: "A | B", only: undefined, title: "Side by side" },
];

class Player {
  #file;

  constructor(letter) {
    this.video = element("video", "hf-player-video");
    this.video.playsInline = true;
    this.video.preload = "auto";
    this.video.setAttribute("aria-label", `Video ${letter}`);
    this.told = element("p", "hf-player-told");
    this.element = element("div", "hf-player", this.video, this.told);
    this.video.addEventListener("error", () => this.#file && this.#tell(whyNot(this.video, this.#file)));
  }

  show(file) {
    this.#file = file;
    this.#tell(file ? "" : NO_VIDEO);
    if (file) this.video.src = addressOf(file);
    else this.release();
  }

  /** Let go of the file. */
  release() {
    this.#file = null;
    this.video.removeAttribute("src");
    this.video.load();
  }

  get length() {
    return Number.isFinite(this.video.duration) ? this.video.duration : 0;
  }

  seek(second) {
    if (this.length) this.video.currentTime = Math.min(second, this.length);
  }

  #tell(text) {
    this.told.textContent = text;
    this.told.hidden = !text;
    this.video.hidden = Boolean(text);
  }
}

/** `element` has the videos and their controls; under each stands what was put into `below[0]` and `below[1]`. */
export class TwoPlayers {
  #players = [new Player("A"), new Player("B")];
  #begin = 0; // where both are put once they are loaded
  #only = undefined; // which of them is seen, when they stand in one place

  constructor(below) {
    this.play = element("button", "hf-players-play", "Play");
    this.bar = element("input", "hf-players-bar");
    this.time = element("span", "hf-players-time");
    this.play.type = "button";
    this.play.title = "Space";
    this.views = VIEWS.map((view) => this.#view(view));
    const views = element("div", "hf-players-views", ...this.views);
    views.setAttribute("role", "group");
    views.setAttribute("aria-label", "Which is seen");
    Object.assign(this.bar, { type: "range", min: 0, max: 0, step: "any", value: 0 });
    this.bar.setAttribute("aria-label", "Position");
    this.sides = this.#players.map((player, side) => element("div", "hf-players-side", player.element, below[side]));
    const row = element("div", "hf-players-row", this.play, this.bar, this.time, views);
    this.element = element("div", "hf-players", element("div", "hf-players-both", ...this.sides), row);
    this.#listen();
    this.#draw();
  }

  /** Show two videos, each null for none, both from one second on. */
  show(files, second) {
    this.pause();
    this.#begin = second;
    this.#players.forEach((player, side) => player.show(files[side]));
    this.#draw();
  }

  /** Let go of both files. */
  release() {
    this.pause();
    this.#players.forEach((player) => player.release());
  }

  pause() {
    this.#players.forEach(({ video }) => video.pause());
  }

  toggle() {
    const lead = this.#lead;
    if (!lead) return;
    if (!lead.video.paused) return this.move(0); // both on one picture
    if (lead.video.ended || lead.video.currentTime >= lead.length) this.#seek(0);
    const playing = this.#players.filter(({ length }) => length > lead.video.currentTime);
    playing.forEach(({ video }) => video.play().catch(() => this.pause())); // the page may not play by itself
    requestAnimationFrame(() => this.#follow());
  }

  /** One in the place of the other, A first. */
  swapSides() {
    this.#see(this.#only === 0 ? 1 : 0);
  }

  /** A step along the bar, in seconds. */
  move(seconds) {
    const lead = this.#lead;
    this.pause();
    if (lead) this.#seek(Math.max(0, lead.video.currentTime + seconds)); // the bar may be a frame of the page behind
  }

  get #lead() {
    const [a, b] = this.#players;
    if (!a.length && !b.length) return undefined;
    return b.length > a.length ? b : a;
  }

  #view({ text, only, title }) {
    const button = element("button", "hf-players-view", text);
    Object.assign(button, { type: "button", title });
    button.addEventListener("click", () => this.#see(only));
    return button;
  }

  #see(only) {
    this.#only = only;
    this.#draw();
  }

  #seek(second) {
    this.#players.forEach((player) => player.seek(second));
    this.#draw(second);
  }

  #follow() {
    const lead = this.#lead;
    if (!lead || !this.element.isConnected) return;
    const now = lead.video.currentTime;
    for (const player of this.#players.filter((each) => each !== lead && !each.video.seeking)) {
      const wanted = Math.min(now, player.length);
      if (Math.abs(player.video.currentTime - wanted) > APART) player.seek(wanted);
    }
    this.#draw();
    if (!lead.video.paused) requestAnimationFrame(() => this.#follow());
    else this.#seek(now); // both on one picture
  }

  #listen() {
    this.play.addEventListener("click", () => this.toggle());
    this.bar.addEventListener("input", () => {
      this.pause();
      this.#seek(Number(this.bar.value));
    });
    for (const player of this.#players) {
      const { video } = player;
      video.addEventListener("loadedmetadata", () => player.seek(this.#begin));
      for (const name of ["play", "pause", "ended", "seeked", "loadedmetadata"]) {
        video.addEventListener(name, () => this.#draw());
      }
    }
  }

  #draw(second = this.#lead?.video.currentTime ?? 0) {
    const length = this.#lead?.length ?? 0;
    this.bar.max = length;
    this.bar.value = second;
    this.bar.disabled = !length;
    this.time.textContent = `${clock(second)} of ${clock(length)}`;
    this.bar.setAttribute("aria-valuetext", this.time.textContent);
    const text = this.#lead && !this.#lead.video.paused ? "Pause" : "Play";
    if (this.play.textContent !== text) this.play.textContent = text;
    this.views.forEach((button, number) => {
      button.setAttribute("aria-pressed", String(VIEWS[number].only === this.#only));
    });
    this.sides.forEach((side, number) => {
      side.hidden = this.#only !== undefined && this.#only !== number;
      this.#players[number].video.muted = number !== (this.#only ?? 0);
    });
  }
}
