// Which runs are of the workflow that is open: another one, in another tab of the page, may have nodes of the same ids.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const ours = new Map(); // by the id of a queued prompt: whether it is of the workflow that was open

/** Whether a prompt, by its id, was queued from the workflow that was open when this was first asked. */
export function isOfThisWorkflow(promptId) {
  if (!ours.has(promptId)) {
    const id = app.rootGraph.id;
    ours.set(promptId, workflowOf(promptId).then((workflow) => workflow === id));
  }
  return ours.get(promptId);
}

async function workflowOf(promptId) {
  const { queue_running: running } = (await answerTo("/queue")) ?? {};
  const prompt =
    running?.find((entry) => entry[1] === promptId) ?? (await answerTo(`/history/${promptId}`))?.[promptId]?.prompt;
  return prompt?.[3]?.extra_pnginfo?.workflow?.id;
}

const answerTo = (path) =>
  api
    .fetchApi(path)
    .then((reply) => reply.json())
    .catch(() => undefined);
