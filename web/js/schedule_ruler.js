// A ruler under the text of Prompt Schedule: its scenes where they will really begin, and its errors, as one types; what
// is done on it is written into the text. The server reads and edits the text, so that there is one reader of it. The
// node works the same without this script.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { ask } from "./ask.js";
import { addStyle } from "./elements.js";
import { addPanel, chain } from "./node_panel.js";
import { RulerView } from "./ruler_view.js";
import { editSchedule } from "./schedule_edit.js";
import { scheduleQuestion } from "./schedule_question.js";
import { textBox } from "./text_box.js";
import { goToLine, markLine, unmark } from "./text_line.js";

const NODE = "HeadForcingPromptSchedule";
const ROUTE = "/head_forcing/schedule";
const LOOK_MS = 150; // what has not changed from one look to the next is asked

class ScheduleRuler {
  constructor(node) {
    this.node = node;
    this.view = new RulerView(
      (line) => this.goTo(line),
      (...given) => this.edit(...given),
    );
    this.edits = Promise.resolve(); // one after the other
    this.editing = 0; // how many are not done
    this.seen = this.asked = undefined;
    this.errorLine = 0;
    this.timer = undefined; // while the node is in a graph
    this.forget = () => (this.asked = undefined);
    this.marked = undefined; // the text box that has a marked line, and what the mark was measured for
  }

  get box() {
    return textBox(this.node, "text");
  }

  start() {
    this.stop();
    this.timer = setInterval(() => this.look(), LOOK_MS);
    api.addEventListener("reconnected", this.forget);
  }

  stop() {
    clearInterval(this.timer);
    api.removeEventListener("reconnected", this.forget);
    this.timer = undefined;
    this.view.leave();
    this.clear(); // the text box may go on as that of another node
  }

  async look() {
    const asking = scheduleQuestion(this.node);
    const now = JSON.stringify(asking);
    if (now !== this.asked && now === this.seen) {
      this.asked = now;
      const show = await this.answered(asking);
      const isOld = this.editing || now !== JSON.stringify(scheduleQuestion(this.node)); // edges would jump back
      if (now === this.asked && !isOld) show();
      else if (now === this.asked) this.asked = undefined;
    }
    this.seen = now;
    this.mark();
  }

  async answered({ question, hasSampler, hasLoader }) {
    if (typeof question.text !== "string") {
      return () => this.show(0, "say", "The text comes from another node. Its scenes are known when it runs.");
    }
    try {
      const answer = await ask(ROUTE, question);
      if (answer.error) return () => this.show(answer.error.line, "fail", answer.error);
      if (answer.drawn) return () => this.show(0, "say", `Drawn when you press Run: ${answer.drawn} decides about times.`);
      return () => this.show(0, "show", answer, print(answer, question, hasSampler, hasLoader), question);
    } catch (error) {
      return () => this.show(0, "fail", { line: 0, message: error.message });
    }
  }

  show(errorLine, how, ...what) {
    this.errorLine = errorLine;
    this.view[how](...what);
  }

  mark() {
    const box = this.timer && this.errorLine ? this.box : undefined;
    const measured = box && `${this.errorLine} ${box.clientWidth} ${box.value}`;
    if (this.marked?.box === box && this.marked?.measured === measured) return;
    this.clear();
    if (box) markLine(box, this.errorLine);
    this.marked = box && { box, measured };
  }

  clear() {
    if (this.marked) unmark(this.marked.box);
    this.marked = undefined;
  }

  edit(edit, shownText) {
    this.editing += 1;
    this.edits = this.edits
      .then(() => editSchedule(this.node, edit, { shownText }))
      .catch((error) => this.view.refuse(error.message))
      .finally(() => (this.editing -= 1));
  }

  goTo(line) {
    const box = this.box;
    if (box && line) goToLine(box, line);
  }
}

function print(answer, question, hasSampler, hasLoader) {
  const late = answer.scenes.filter((scene) => answer.end_second !== null && scene.start_second >= answer.end_second);
  const chunks = `chunks of ${answer.chunk_frames} frame${answer.chunk_frames === 1 ? "" : "s"}`;
  const rate = `${chunks}${hasSampler && !hasLoader ? " (assumed)" : ""} at ${answer.fps} fps`;
  if (!hasSampler) return `${rate} (assumed); link a Head-Forced Sampler`;
  const end = question.seconds === null ? "length not known" : `${question.seconds} s`;
  return `${rate}, ${end}${late.length ? `; ${late.length} after the end` : ""}`;
}

function addRuler(node) {
  const ruler = new ScheduleRuler(node);
  addPanel(node, "schedule_ruler", ruler.view.element);
  chain(node, "onAdded", () => ruler.start());
  chain(node, "onRemoved", () => ruler.stop());
}

app.registerExtension({
  name: "headforcing.ScheduleRuler",
  setup: () => addStyle("schedule_ruler.css"),
  nodeCreated(node) {
    if (node.comfyClass === NODE) addRuler(node);
  },
});
