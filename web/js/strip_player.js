// A small player under the film strip, of a video that may still grow.
import { api } from "../../../scripts/api.js";
import { element } from "./elements.js";

const H264 = 'video/mp4; codecs="avc1.42E01E"';
const NOT_PLAYED = "This browser plays no H.264 video. Open the file in another player:";
const NOT_LOADED = "The video could not be loaded. ComfyUI deletes videos without a run_name when it ends or starts:";

/** The player. `newest()` gives {run, fps, video} as they are now, `onPlace()` hears that it plays elsewhere, or stops. */
export class StripPlayer {
  #newest;
  #onPlace;
  #address = "";
  #pictures = 0; // in the video when it was loaded
  #isAgain = false; // loaded anew after an error, which a file that was exchanged makes

  constructor(newest, onPlace) {
    this.#newest = newest;
    this.#onPlace = onPlace;
    this.run = undefined; // whose video it is
    this.video = element("video", "hf-strip-video");
    this.video.controls = this.video.playsInline = true;
    this.told = element("p", "hf-strip-problem");
    this.told.setAttribute("role", "status");
    this.close = element("button", "hf-strip-close", "Close");
    this.close.type = "button";
    this.element = element("div", "hf-strip-player", this.video, this.told, this.close);
    this.element.hidden = true;
    this.#listen();
  }

  get isPlaying() {
    return !this.element.hidden && !this.video.paused && !this.video.ended;
  }

  /** Where it is, in seconds; undefined while it is closed or shows another run's video. */
  get second() {
    return this.element.hidden || this.run !== this.#newest().run ? undefined : this.video.currentTime;
  }

  /** Go to a second, and play from there if asked to; else it goes on as it was. */
  go(second, plays) {
    const { run, fps, video } = this.#newest();
    const address = fileAddress(video);
    const isThere = address === this.#address && run === this.run && (second + 0.5 / fps) * fps < this.#pictures;
    const goesOn = plays || this.isPlaying;
    this.element.hidden = false;
    this.run = run;
    this.#address = address;
    if (!isThere) this.#load();
    this.video.currentTime = second;
    if (goesOn) this.#play();
  }

  /** Play or pause where it is. */
  toggle() {
    if (this.isPlaying) this.video.pause();
    else this.#play();
  }

  #play() {
    this.video.play().catch(() => undefined); // what keeps it from playing is told by its own event
  }

  #load() {
    const { video } = this.#newest();
    this.#pictures = video.pictures;
    this.#tell("");
    this.video.src = api.apiURL(`${this.#address}&now=${Date.now()}`); // else the browser's own copy, which is shorter
  }

  #listen() {
    this.close.addEventListener("click", () => this.#shut());
    this.video.addEventListener("error", () => this.#fail());
    this.video.addEventListener("ended", () => this.#goOn());
    this.video.addEventListener("playing", () => this.#follow());
    for (const name of ["playing", "seeked", "pause"]) this.video.addEventListener(name, () => this.#onPlace());
    this.video.addEventListener("playing", () => (this.#isAgain = false));
  }

  #follow() {
    if (!this.isPlaying) return;
    this.#onPlace();
    requestAnimationFrame(() => this.#follow());
  }

  #goOn() {
    const { run, video } = this.#newest();
    if (run === this.run && video?.pictures > this.#pictures) this.go(this.video.duration, true);
  }

  #fail() {
    if (!this.video.getAttribute("src")) return; // it was closed
    const { run, video } = this.#newest();
    if (!this.#isAgain && run === this.run && video) {
      this.#isAgain = true;
      const second = this.video.currentTime;
      this.#load();
      this.video.currentTime = second;
      this.#play();
      return;
    }
    const why = this.video.canPlayType(H264) ? NOT_LOADED : NOT_PLAYED;
    this.#tell(`${why} ${new URLSearchParams(this.#address.split("?")[1]).get("filename")}.`);
  }

  #tell(text) {
    this.told.textContent = text;
    this.told.hidden = !text;
    this.video.hidden = Boolean(text);
  }

  #shut() {
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
    this.element.hidden = true;
    this.#address = "";
    this.#onPlace();
  }
}

function fileAddress({ filename, subfolder, type }) {
  return `/view?${new URLSearchParams({ filename, subfolder, type })}`;
}
