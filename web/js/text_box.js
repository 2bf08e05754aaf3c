// The text box of a node's text widget, written as by hand: Ctrl+Z takes the change back, in the box and in the graph.
import { app } from "../../../scripts/app.js";

const plainBreaks = (text) => text.replace(/\r\n?/g, "\n"); // as a text box has them

/** The text box that shows a widget of a node; undefined while the page shows none. */
export function textBox(node, name) {
  if (!window.LiteGraph.vueNodesMode) return node.widgets.find((widget) => widget.name === name)?.element;
  if (node.graph !== app.canvas.graph) return undefined;
  return document.querySelector(`[data-node-id="${node.id}"] textarea`) ?? undefined; // Vue nodes have one of their own
}

/** Write a text into a widget: one step of the graph's own undo, and of that of its box. */
export async function writeText(node, name, text) {
  const widget = node.widgets.find((each) => each.name === name);
  remember(); // what was typed before is a step of its own
  if (!typeInto(textBox(node, name), text)) {
    widget.value = text;
    widget.callback?.(text);
  }
  await new Promise((done) => setTimeout(done)); // Vue nodes take over what was typed
  remember();
}

/** Let the host's change tracker look, whatever its version calls that: what was changed is one step for undo. */
export function remember() {
  app.canvas.emitBeforeChange();
  app.canvas.emitAfterChange();
}

/** Whether a text could be put in place of that of a box as if it were typed: the part that differs. */
function typeInto(box, text) {
  if (!box?.isConnected) return false;
  const [old, now] = [box.value, plainBreaks(text)];
  if (old === now) return true;
  const [focused, top] = [document.activeElement, box.scrollTop];
  box.focus({ preventScroll: true });
  if (document.activeElement !== box) return false; // it is hidden
  const most = Math.min(old.length, now.length);
  let begin = 0;
  while (begin < most && old[begin] === now[begin]) begin += 1;
  let end = 0;
  while (end < most - begin && old[old.length - 1 - end] === now[now.length - 1 - end]) end += 1;
  const part = now.slice(begin, now.length - end);
  box.setSelectionRange(begin, old.length - end);
  document.execCommand(part ? "insertText" : "delete", false, part); // all else is no step of a box's own undo
  box.scrollTop = top;
  if (focused !== box) box.blur(); // nothing may have had the focus
  focused?.focus({ preventScroll: true });
  return box.value === now;
}
