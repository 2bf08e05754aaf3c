// The menu of a scene on the ruler: cut it in two, put another one into it, delete it, choose how it takes over.
import { clock, part } from "./ruler_parts.js";

const SCHEDULE = "HeadForcingPromptSchedule";
const MOST_SOFT_CHUNKS = 64; // as the server has it
const EDGE = 8; // pixels that are left between the menu and the border of the window
const NO_ROOM = "No room: a prompt can change only where a chunk begins.";
const WAYS = {
  recache: "The same video goes on and follows the new prompt.",
  flush: "The new prompt acts with little of the old scene in the way; the beginning is still remembered.",
  soft: "A slow change, over some chunks. Nothing is forgotten.",
  cut: "A hard cut to another scene, which counts as the beginning from then on.",
  shot: "A new shot of the same film; for checkpoints of LongLive-2.0 alone.",
};

let open; // the one menu that is open

/** Open the menu of scene `index` at a place of the window. `free` is the {second, chunk} at which one more scene may
 * begin in it, undefined if it has no room; `usual` the transition of scenes without one of their own. `onEdit(edit)`
 * takes what is chosen. Returns what closes it. */
export function openMenu({ scene, index, scenes, free, usual, onEdit, x, y }) {
  open?.();
  const before = document.activeElement;
  const menu = part("div", "menu");
  menu.setAttribute("role", "dialog");
  menu.setAttribute("aria-label", `Scene ${index + 1}`);
  let isOpen = true;
  const close = () => {
    if (!isOpen) return;
    isOpen = false; // what is half typed is not chosen by that: it hears of a change when it goes
    if (open === close) open = undefined;
    menu.remove();
    document.removeEventListener("pointerdown", outside, true);
    if (before?.isConnected) before.focus({ preventScroll: true });
  };
  const outside = ({ target }) => menu.contains(target) || close();
  const choose = (edit) => {
    if (!isOpen) return;
    close();
    onEdit(edit);
  };
  menu.append(part("p", "menu-title", `Scene ${index + 1}, ${clock(scene.start_second)}`));
  if (index) menu.append(...transitions(scene, usual, choose));
  const [prompt, add] = another(free, choose);
  const split = button("Split here", () => choose({ kind: "split", second: free.second }), !free);
  const remove = button("Delete scene", () => choose({ kind: "delete", line: scene.line }));
  remove.disabled = scenes === 1; // a video has one at least
  menu.append(prompt, row(add, split, remove));
  menu.addEventListener("keydown", (event) => {
    event.stopPropagation(); // what is typed here is no shortcut of the canvas
    if (event.key === "Escape") close();
  });
  document.body.append(menu);
  const { width, height } = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(EDGE, Math.min(x, window.innerWidth - width - EDGE))}px`;
  menu.style.top = `${Math.max(EDGE, Math.min(y, window.innerHeight - height - EDGE))}px`;
  document.addEventListener("pointerdown", outside, true);
  menu.querySelector("button:not(:disabled), textarea")?.focus({ preventScroll: true });
  open = close;
  return close;
}

function row(...inside) {
  const made = part("div", "menu-row");
  made.append(...inside);
  return made;
}

function button(text, onClick, disabled = false) {
  const made = part("button", "menu-button", text);
  made.type = "button";
  made.disabled = disabled;
  if (disabled) made.title = NO_ROOM;
  made.addEventListener("click", onClick);
  return made;
}

function transitions(scene, usual, choose) {
  const [, { options }] = window.LiteGraph.registered_node_types[SCHEDULE].nodeData.input.optional.transition;
  const own = (word) => (word === usual ? null : word); // what the node says anyway stays with the node
  const give = (word, chunks) =>
    choose({ kind: "transition", line: scene.line, transition: word, soft_chunks: chunks });
  const words = options.map((word) => {
    const made = button(word, () => give(own(word), null));
    made.title = WAYS[word];
    made.setAttribute("aria-pressed", String(word === scene.transition));
    return made;
  });
  const group = row(...words);
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Transition");
  if (scene.transition === "soft") group.append(fade(scene, (chunks) => give(chunks ? "soft" : own("soft"), chunks)));
  return [group, part("p", "menu-hint", WAYS[scene.transition])];
}

function fade(scene, onChunks) {
  const chunks = part("input", "menu-chunks");
  Object.assign(chunks, { type: "number", min: 1, max: MOST_SOFT_CHUNKS, value: scene.soft_chunks ?? "" });
  chunks.placeholder = "over ... chunks";
  chunks.title = "Over how many chunks it fades; empty: as many as the node says. Enter sets it.";
  chunks.setAttribute("aria-label", "Chunks of the fade");
  chunks.addEventListener("change", () => chunks.reportValidity() && onChunks(Number(chunks.value) || null));
  return chunks;
}

function another(free, choose) {
  const prompt = part("textarea", "menu-prompt");
  prompt.rows = 2;
  prompt.placeholder = free ? `Another scene at ${clock(free.second)}: its prompt` : NO_ROOM;
  prompt.disabled = !free;
  prompt.setAttribute("aria-label", "Prompt of another scene");
  const give = () => choose({ kind: "add", second: free.second, prompt: prompt.value, transition: null });
  const add = button("Add scene", give, true);
  add.title = free ? "Ctrl+Enter" : NO_ROOM;
  prompt.addEventListener("input", () => (add.disabled = !prompt.value.trim()));
  prompt.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    add.click();
  });
  return [prompt, add];
}
