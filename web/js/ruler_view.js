// The ruler's picture: an axis of seconds, a bar for each scene, a line of small print; or what is wrong with the text.
const STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000];
const MOST_TICKS = 7;
const BEYOND = 1.15; // how far a ruler without an end goes on after its last scene
const SHORTEST = 10; // seconds that a ruler without an end shows at least

const part = (tag, name, text) => {
  const element = document.createElement(tag);
  if (name) element.className = `hf-ruler-${name}`;
  if (text !== undefined) element.textContent = text;
  return element;
};

const percent = (second, length) => `${((second / length) * 100).toFixed(3)}%`;

/** 7.5 s, or 1:07.5 from a minute on. */
export function clock(second) {
  const shown = Math.round(second * 100) / 100;
  if (shown < 60) return `${shown} s`;
  const rest = Math.round((shown % 60) * 100) / 100;
  return `${Math.floor(shown / 60)}:${rest < 10 ? "0" : ""}${rest}`;
}

/** The picture of one ruler. `onLine(line)` hears of a click on a scene. */
export class RulerView {
  constructor(onLine) {
    this.onLine = onLine;
    this.element = part("div");
    this.element.className = "hf-ruler";
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", "Scenes of the schedule");
    this.status = part("p", "status");
    this.status.setAttribute("role", "status"); // read aloud when it changes
    this.status.addEventListener("click", () => this.onLine(this.errorLine));
    this.errorLine = 0;
    this.body = part("div", "body");
    this.element.append(this.body, this.status);
  }

  /** Show where the scenes fall. `print` is the small print. */
  show({ scenes, end_second: end, notes, habits }, print) {
    const last = scenes[scenes.length - 1].start_second;
    const late = end !== null && last >= end;
    const length = end === null || late ? Math.max(last * BEYOND, end ?? SHORTEST) : end;
    this.body.replaceChildren(axis(length), this.#bars(scenes, end, length));
    if (late) this.body.append(this.#end(end, length));
    this.#tell([...habits, print].join(" "), [...habits, ...notes].join("\n"));
    this.element.classList.toggle("hf-ruler-habits", habits.length > 0);
  }

  /** Show what is wrong; a click on it goes to its line. */
  fail({ line, message }) {
    this.body.replaceChildren();
    this.#tell(message, "", true);
    this.errorLine = line;
  }

  /** Show a sentence and no scenes. */
  say(sentence) {
    this.body.replaceChildren();
    this.#tell(sentence, "");
  }

  #tell(text, notes, failed = false) {
    this.errorLine = 0;
    this.element.classList.toggle("hf-ruler-failed", failed);
    this.element.classList.remove("hf-ruler-habits");
    this.element.classList.toggle("hf-ruler-scenes", this.body.childElementCount > 0);
    if (this.status.textContent !== text) this.status.textContent = text;
    this.status.title = notes;
  }

  #bars(scenes, end, length) {
    const list = part("ol", "bars");
    scenes.forEach((scene, index) => {
      const next = scenes[index + 1]?.start_second ?? length;
      const late = end !== null && scene.start_second >= end;
      list.append(this.#bar(scene, late || end === null ? next : Math.min(next, end), late, length));
    });
    return list;
  }

  #bar(scene, until, late, length) {
    const item = part("li", "scene");
    item.style.left = percent(scene.start_second, length);
    item.style.width = percent(until - scene.start_second, length);
    item.classList.toggle("hf-ruler-late", late);
    if (scene.transition) item.dataset.transition = scene.transition;
    const button = part("button", "bar");
    button.type = "button";
    const over = scene.soft_chunks ? ` over ${scene.soft_chunks} chunks` : "";
    const told = late ? "after the end" : `${scene.transition ?? ""}${over}`;
    const [starts, asked] = [scene.start_second, scene.asked_second].map(clock);
    const when = `${starts}${starts === asked ? "" : ` (asked: ${asked})`}, chunk ${scene.chunk}${told && `, ${told}`}`;
    button.append(part("span", "when", `${starts} ${told}`), part("span", "prompt", scene.prompt));
    button.title = `${when}\n${scene.prompt}`;
    button.setAttribute("aria-label", `Line ${scene.line || 1}, ${when}: ${scene.prompt}`);
    button.addEventListener("click", () => this.onLine(scene.line || 1));
    item.append(button);
    return item;
  }

  #end(end, length) {
    const mark = part("div", "end");
    mark.style.left = percent(end, length);
    mark.title = `The video ends at ${clock(end)}.`;
    return mark;
  }
}

function axis(length) {
  const line = part("div", "axis");
  line.setAttribute("aria-hidden", "true");
  const step = STEPS.find((seconds) => length / seconds <= MOST_TICKS) ?? length / MOST_TICKS;
  for (let second = 0; second <= length * 1.0001; second += step) {
    const tick = part("span", "tick", clock(second));
    tick.style.left = percent(second, length);
    if (second > length * 0.96) tick.classList.add("hf-ruler-last");
    line.append(tick);
  }
  return line;
}
