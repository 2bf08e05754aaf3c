// A small player under the film strip, of a video that may still grow.
import { element } from "./elements.js";
import { addressOf, whyNot } from "./video_file.js";

/** The player. `newest()` gives {run, fps, video} as they are now, `onPlace()` hears that it plays elsewhere, or stops. */
export class StripPlayer {
  #newest;
  #onPlace;
  #file; // the video as it was loaded
  #isFollowing = false;
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

  /** Whether it has come to the end of the video. */
  get hasEnded() {
    return this.video.ended;
  }

  /** Go to a second, and play from there if asked to; else it goes on as it was. */
  go(second, plays) {
    const { run, fps, video } = this.#newest();
    const goesOn = plays || this.isPlaying;
    this.element.hidden = false;
    if (run !== this.run || !isSame(video, this.#file) || !isIn(second, fps, this.#file)) {
      this.run = run;
      this.#isAgain = false;
      this.#load(video);
    }
    this.video.currentTime = second;
    if (goesOn) this.#play();
  }

  /** Whether a second is in the newest video. */
  isThere(second) {
    const { fps, video } = this.#newest();
    return isIn(second, fps, video);
  }

  /** Play or pause where it is. */
  toggle() {
    if (this.isPlaying) this.video.pause();
    else this.#play();
  }

  /** Close it, and let go of the file. */
  shut() {
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
    this.element.hidden = true;
    this.#file = undefined;
    this.#onPlace();
  }

  #play() {
    this.video.play().catch(() => undefined); // what keeps it from playing is told by its own event
  }

  #load(file) {
    this.#file = file;
    this.#tell("");
    this.video.src = addressOf(file);
  }

  #listen() {
    this.close.addEventListener("click", () => this.shut());
    this.video.addEventListener("error", () => this.#fail());
    this.video.addEventListener("ended", () => this.#goOn());
    this.video.addEventListener("playing", () => this.#begin());
    for (const name of ["playing", "seeked", "pause"]) this.video.addEventListener(name, () => this.#onPlace());
    this.video.addEventListener("playing", () => (this.#isAgain = false));
  }

  #begin() {
    if (!this.#isFollowing) this.#follow(); // it is also "playing" again after each wait
  }

  #follow() {
    this.#isFollowing = this.isPlaying;
    if (!this.#isFollowing) return;
    this.#onPlace();
    requestAnimationFrame(() => this.#follow());
  }

  #goOn() {
    const { run, video } = this.#newest();
    if (run === this.run && video?.pictures > this.#file.pictures) this.go(this.video.duration, true);
  }

  #fail() {
    if (!this.#file) return; // it was closed
    const { run, video } = this.#newest();
    if (!this.#isAgain && run === this.run && video) {
      this.#isAgain = true;
      const [second, goesOn] = [this.video.currentTime, !this.video.paused];
      this.#load(video);
      this.video.currentTime = second;
      if (goesOn) this.#play();
      return;
    }
    this.#tell(whyNot(this.video, this.#file));
    this.#file = undefined; // so that the next click tries again
  }

  #tell(text) {
    this.told.textContent = text;
    this.told.hidden = !text;
    this.video.hidden = Boolean(text);
  }
}

const isSame = (one, other) => ["filename", "subfolder", "type"].every((name) => one[name] === other?.[name]);

/** Whether a video has the picture that begins at a second, which is rounded. */
const isIn = (second, fps, { pictures }) => second * fps + 0.5 < pictures;
