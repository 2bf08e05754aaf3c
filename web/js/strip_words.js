// What is said of the chunks of a film, in words.
import { clock } from "./clock.js";

const MOST_RANGES = 6; // of chunks that are told of

/** What is read aloud of a chunk. */
export function spoken(chunk, second, entry, scene) {
  const begins = scene?.chunk === chunk ? `, ${scene.live ? "live prompt" : "scene"}: ${scene.prompt}` : "";
  return `Chunk ${chunk}, ${clock(second)}${entry?.picked ? ", a choice for memory" : ""}${begins}`;
}

/** Which chunks were read, from their stretches; -1 is what was there before the first. */
export function readText(reads) {
  const stretch = (first, last) => (first === last ? `${first}` : `${first} to ${last}`);
  const ranges = reads.flatMap(([first, last]) => {
    const inside = last < 0 ? [] : [stretch(Math.max(first, 0), last)];
    return first < 0 ? ["what was there before", ...inside] : inside;
  });
  const told = ranges.slice(0, MOST_RANGES).join(", ");
  return ranges.length ? `${told}${ranges.length > MOST_RANGES ? ", ..." : ""}` : "nothing of the past";
}
