// Asks one of the pack's routes on ComfyUI's own server.
import { api } from "../../../scripts/api.js";

const MOST_BYTES = 64 * 1024; // as the server reads

/** The answer of a route to a question (both plain objects). Throws an Error with a sentence when it is turned away. */
export async function ask(route, question) {
  const body = JSON.stringify(question);
  if (new Blob([body]).size > MOST_BYTES) {
    throw new Error("The text has more than 64 KB: too much to be read and changed by this page. It runs all the same.");
  }
  const headers = { "Content-Type": "application/json" };
  const reply = await api.fetchApi(route, { method: "POST", headers, body }).catch(() => {
    throw new Error("ComfyUI does not answer. Start it again, or wait; this page connects to it by itself.");
  });
  const answer = await reply.json().catch(() => ({}));
  if (reply.ok) return answer;
  throw new Error(
    answer.error ?? `ComfyUI does not answer ${route} (${reply.status}). Restart ComfyUI and reload the page.`,
  );
}
