// Asks one of the pack's routes on ComfyUI's own server.
import { api } from "../../../scripts/api.js";

/** The answer of a route to a question (both plain objects). Throws an Error with a sentence when it is turned away. */
export async function ask(route, question) {
  const reply = await api.fetchApi(route, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(question),
  });
  const answer = await reply.json().catch(() => ({}));
  if (reply.ok) return answer;
  throw new Error(
    answer.error ?? `ComfyUI does not answer ${route} (${reply.status}). Restart ComfyUI and reload the page.`,
  );
}
