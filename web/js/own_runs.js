// Which runs are of the workflow that is open: another one, in another tab of the page, may have nodes of the same ids.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const workflows = new Map(); // by the id of a queued prompt: the id of its workflow

/** Whether a prompt, by its id, was queued from the workflow that is open now. */
export async function isOfThisWorkflow(promptId) {
  if (!workflows.has(promptId)) workflows.set(promptId, workflowOf(promptId));
  return (await workflows.get(promptId)) === app.rootGraph.id;
}

async function workflowOf(promptId) {
  const prompt = await promptOf(promptId);
  if (!prompt) workflows.delete(promptId); // ComfyUI may know it, or be there, another time
  return prompt?.[3]?.extra_pnginfo?.workflow?.id;
}

/** A prompt that runs or has ended, as ComfyUI keeps it: [number, id, nodes, extra data, ...]; or undefined. */
export async function promptOf(promptId) {
  const queue = await answerTo("/queue");
  const running = queue?.queue_running?.find((entry) => entry[1] === promptId);
  return running ?? (await answerTo(`/history/${promptId}`))?.[promptId]?.prompt;
}

/** What one of the host's own routes answers; undefined when it does not. */
export const answerTo = (path) =>
  api
    .fetchApi(path)
    .then((reply) => reply.json())
    .catch(() => undefined);
