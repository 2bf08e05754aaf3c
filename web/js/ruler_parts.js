// What the parts of the ruler share: elements, places on its axis, times as it shows them.
export { shortClock as clock } from "./clock.js";

/** An element of the ruler. */
export function part(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = `hf-ruler-${name}`;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** The place of a second on an axis of some length. */
export const percent = (second, length) => `${((second / length) * 100).toFixed(3)}%`;
