// The ruler's picture: an axis of seconds, a bar for each scene, a line of small print; or what is wrong with the text.
import { ChunkGrid } from "./chunk_grid.js";
import { RulerEdges } from "./ruler_edges.js";
import { openMenu } from "./ruler_menu.js";
import { clock, part, percent } from "./ruler_parts.js";

const STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000];
const MOST_TICKS = 7;
const BEYOND = 1.15; // how far a ruler without an end goes on after its last scene
const SHORTEST = 10; // seconds that a ruler without an end shows at least

/** The picture of one ruler. `onLine(line)` hears of a click on a scene, `onEdit(edit, text)` of an edit of the schedule
 * and of the text for which its scenes were shown. */
export class RulerView {
  constructor(onLine, onEdit) {
    this.onLine = onLine;
    this.onEdit = onEdit;
    this.edges = new RulerEdges(
      (edit) => onEdit(edit, this.shown?.question.text),
      (index) => this.#menu(index),
      () => this.latest && this.latest !== this.shown?.given && this.show(...this.latest),
    );
    this.latest = undefined; // what is to be shown of the scenes, once no edge is held
    this.element = part("div");
    this.element.className = "hf-ruler";
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", "Scenes of the schedule");
    this.status = part("p", "status");
    this.status.setAttribute("role", "status"); // read aloud when it changes
    this.status.addEventListener("click", () => this.onLine(this.errorLine));
    this.errorLine = 0;
    this.body = part("div", "body");
    this.convert = part("button", "convert", "Convert");
    this.convert.type = "button";
    this.convert.title = "Write these scenes as they are written here. Ctrl+Z in the text brings the old text back.";
    this.convert.addEventListener("click", () => this.onEdit({ kind: "convert" }));
    this.element.append(this.body, this.status, this.convert);
    this.element.addEventListener("keydown", leaveUndoToThePage);
  }

  /** Show where the scenes fall: an answer, the small print, and what was asked. */
  show(...given) {
    this.latest = given;
    if (this.edges.isHeld && this.shown) return;
    const [answer, print, question] = given;
    const { scenes, end_second: end, notes, habits } = answer;
    const last = scenes[scenes.length - 1].start_second;
    const late = end !== null && last >= end;
    const length = end === null || late ? Math.max(last * BEYOND, end ?? SHORTEST) : end;
    const focused = this.#focused();
    const list = this.#bars(scenes, end, length);
    this.grid = new ChunkGrid(answer);
    this.shown = { given, answer, question, list, length };
    this.body.replaceChildren(axis(length), list);
    if (question.is_drawn) this.#edit(list, answer, length, question.text); // else the text is another node's
    if (late) this.body.append(this.#end(end, length));
    this.#focus(focused);
    this.#tell([...habits, print].join(" "), [...habits, ...notes].join("\n"));
    this.element.classList.toggle("hf-ruler-habits", habits.length > 0);
  }

  /** Show the scenes again as they are in the text, and why they could not be edited. */
  refuse(message) {
    if (this.latest) this.show(...this.latest);
    const [line, { hidden }] = [this.errorLine, this.convert];
    this.#tell(message, message, !this.shown);
    this.errorLine = line;
    this.convert.hidden = hidden;
    this.element.classList.add("hf-ruler-refused");
  }

  /** Show what is wrong; a click on it goes to its line. */
  fail({ line, message, converts }) {
    this.#clear();
    this.#tell(message, "", true);
    this.errorLine = line;
    this.convert.hidden = !converts;
  }

  /** Show a sentence and no scenes. */
  say(sentence) {
    this.#clear();
    this.#tell(sentence, "");
  }

  /** Its node has left the graph. */
  leave() {
    this.closeMenu?.();
  }

  #clear() {
    this.latest = this.shown = undefined;
    this.edges.isHeld = false;
    this.body.replaceChildren();
  }

  #tell(text, notes, failed = false) {
    this.errorLine = 0;
    this.convert.hidden = true;
    this.element.classList.toggle("hf-ruler-failed", failed);
    this.element.classList.remove("hf-ruler-habits", "hf-ruler-refused");
    this.element.classList.toggle("hf-ruler-scenes", this.body.childElementCount > 0);
    if (this.status.textContent !== text) this.status.textContent = text;
    this.status.title = notes;
  }

  /** Which scene has the focus, and whether its edge does. */
  #focused() {
    const item = this.body.contains(document.activeElement) && document.activeElement.closest("li");
    if (!item) return undefined;
    return { index: [...item.parentElement.children].indexOf(item), role: document.activeElement.getAttribute("role") };
  }

  #focus(focused) {
    if (!focused) return;
    const items = this.shown.list.children;
    const item = items[Math.min(focused.index, items.length - 1)];
    (item.querySelector(focused.role ? "[role=slider]" : "button") ?? item.querySelector("button")).focus({
      preventScroll: true,
    });
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

  /** Let the scenes be edited: by their edges, and by a menu of each. */
  #edit(list, answer, length, text) {
    [...list.children].forEach((item, index) => {
      const [bar, more] = [item.querySelector("button"), part("span", "more", "...")];
      more.title = "Add, split, delete, transition; also by a right click, or Shift+F10";
      bar.append(more);
      bar.setAttribute("aria-haspopup", "dialog");
      const open = (event) => {
        event.preventDefault();
        event.stopPropagation();
        this.#menu(index, event);
      };
      item.addEventListener("contextmenu", open);
      more.addEventListener("click", open);
      bar.addEventListener("keydown", ({ key }) => {
        if (key === "Delete") this.onEdit({ kind: "delete", line: answer.scenes[index].line }, text);
      });
    });
    this.edges.arrange(list, answer, length, this.grid);
  }

  /** Open the menu of a scene: at the pointer, or for the keyboard below its middle. */
  #menu(index, { clientX, clientY } = {}) {
    const { answer, question, list, length } = this.shown;
    const { left, width } = list.getBoundingClientRect();
    const bar = list.children[index].getBoundingClientRect();
    const isInside = clientX > bar.left && clientX < bar.right;
    const x = isInside ? clientX : (bar.left + bar.right) / 2;
    const chunk = this.grid.free(index, ((x - left) / width) * length);
    this.closeMenu = openMenu({
      scene: answer.scenes[index],
      index,
      scenes: answer.scenes.length,
      free: chunk && { chunk, second: this.grid.start(chunk) },
      usual: question.transition,
      onEdit: (edit) => this.onEdit(edit, question.text),
      x,
      y: isInside ? clientY : bar.bottom,
    });
  }

  #end(end, length) {
    const mark = part("div", "end");
    mark.style.left = percent(end, length);
    mark.title = `The video ends at ${clock(end)}.`;
    return mark;
  }
}

/** The browser would take the last change of the text box back at the same time, and the page note that as a change. */
function leaveUndoToThePage(event) {
  if ((event.ctrlKey || event.metaKey) && ["z", "y"].includes(event.key.toLowerCase())) event.preventDefault();
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
