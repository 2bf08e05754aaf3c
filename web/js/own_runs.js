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
  const { queue_running: running } = (await answerTo("/queue")) ?? {};
  const prompt =
    running?.find((entry) => entry[1] === promptId) ?? (await answerTo(`/history/${promptId}`))?.[promptId]?.prompt;
  return prompt?.[3]?.extra_pnginfo?.workflow?.id;
}

/** What one of the host's own routes answers; undefined when it does not. */
export const answerTo = (path) =>
  api
    .fetchApi(path)
    .then((reply) => reply.json())
    .catch(() => undefined);
