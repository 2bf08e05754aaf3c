// A Prompt Schedule edited by its scenes. The server edits the text, so that there is one reader of it.
import { ask } from "./ask.js";
import { isLinked, upstream, valueOf } from "./graph_walk.js";
import { scheduleQuestion } from "./schedule_question.js";
import { writeText } from "./text_box.js";
import { linesOf } from "./text_line.js";

const SCHEDULE = "HeadForcingPromptSchedule";
const ROUTE = "/head_forcing/edit_schedule";

/** The Prompt Schedule that feeds a sampler; undefined if there is none, or if its text comes from elsewhere. */
export function scheduleNodeOf(sampler) {
  const node = upstream(sampler, "schedule", SCHEDULE);
  return node && !isLinked(node, "text") ? node : undefined;
}

const CHANGED = "The text was changed in the meantime. Try again.";

/** Do an edit, as nodes/web_api/edit_schedule_route.py lists them, on the text of a Prompt Schedule; the new text. The
 * line that it names is one of `shownText`, if that is given, and chunks are those of `sampler`. Throws an Error with a
 * sentence when it cannot be done. */
export async function editSchedule(node, edit, { shownText, sampler } = {}) {
  if (isLinked(node, "text")) throw new Error("The text comes from another node. Change it there.");
  const { question } = scheduleQuestion(node, sampler);
  if (shownText !== undefined && linesOf(shownText) !== linesOf(question.text)) throw new Error(CHANGED);
  const { text, error } = await ask(ROUTE, { ...question, edit });
  if (error) throw new Error(error.message);
  if (valueOf(node, "text") !== question.text) throw new Error(CHANGED);
  if (text !== question.text) await writeText(node, "text", text);
  return text;
}
