// Lines of a text box that wraps: the cursor put into one, one marked.
const BREAKS = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/g; // as the server counts lines
const COPIED = ["font", "letterSpacing", "lineHeight", "padding", "tabSize", "textIndent", "wordSpacing"];
const MARK = ["backgroundImage", "backgroundSize", "backgroundPosition", "backgroundRepeat", "backgroundAttachment"];
const SPACE_ABOVE = 12; // pixels between the top of the box and a line that is scrolled to

/** How many lines a text has. */
export const linesOf = (text) => text.split(BREAKS).length;

/** Where line `line` (from 1) of a text begins and ends. */
function bounds(text, line) {
  const breaks = [...text.matchAll(BREAKS)];
  const before = breaks[line - 2];
  const start = before ? before.index + before[0].length : 0;
  return [start, breaks[line - 1]?.index ?? text.length];
}

/** The top and height of a line in its box, in the box's own pixels: measured on a copy of the text. */
function place(box, line) {
  const [start, end] = bounds(box.value, line);
  const copy = document.createElement("div");
  const style = getComputedStyle(box);
  for (const name of COPIED) copy.style[name] = style[name];
  Object.assign(copy.style, { position: "absolute", visibility: "hidden", whiteSpace: "pre-wrap" });
  Object.assign(copy.style, { overflowWrap: "break-word", boxSizing: "border-box", width: `${box.clientWidth}px` });
  const part = document.createElement("div");
  part.textContent = box.value.slice(start, end) || " ";
  copy.append(box.value.slice(0, start), part);
  document.body.append(copy);
  const found = { top: part.offsetTop, height: part.offsetHeight };
  copy.remove();
  return found;
}

/** Put the cursor at the beginning of a line and bring it into view. */
export function goToLine(box, line) {
  const [start] = bounds(box.value, line);
  box.focus();
  box.setSelectionRange(start, start);
  box.scrollTop = place(box, line).top - SPACE_ABOVE;
}

/** Tint a line in the host's error colour; it scrolls with the text. */
export function markLine(box, line) {
  const { top, height } = place(box, line);
  const edge = "linear-gradient(var(--error-text), var(--error-text))";
  const tint = "color-mix(in srgb, var(--error-text) 22%, transparent)";
  // the last layer decides where the box's own colour is drawn
  box.style.backgroundImage = `${edge}, linear-gradient(${tint}, ${tint}), none`;
  box.style.backgroundSize = `3px ${height}px, 100% ${height}px, auto`;
  box.style.backgroundPosition = `0 ${top}px, 0 ${top}px, 0 0`;
  box.style.backgroundRepeat = "no-repeat";
  box.style.backgroundAttachment = "local, local, scroll";
}

/** Take the mark away. */
export function unmark(box) {
  for (const name of MARK) box.style[name] = "";
}
