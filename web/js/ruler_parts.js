// What the parts of the ruler share: elements, places on its axis, times as it shows them.

/** An element of the ruler. */
export function part(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = `hf-ruler-${name}`;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** The place of a second on an axis of some length. */
export const percent = (second, length) => `${((second / length) * 100).toFixed(3)}%`;

/** 7.5 s, or 1:07.5 from a minute on. */
export function clock(second) {
  const shown = Math.round(second * 100) / 100;
  if (shown < 60) return `${shown} s`;
  const rest = Math.round((shown % 60) * 100) / 100;
  return `${Math.floor(shown / 60)}:${rest < 10 ? "0" : ""}${rest}`;
}
