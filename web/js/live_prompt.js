// A prompt for the run that is going: typed on the sampler, it takes over at the next chunk (docs/live_prompts.md).
import { ask } from "./ask.js";
import { clock } from "./clock.js";
import { element } from "./elements.js";
import { idsOf } from "./execution_ids.js";

const ROUTE = "/head_forcing/live_prompt";
const SCHEDULE = "HeadForcingPromptSchedule";
const MOST_CHARACTERS = 4000; // as the route has it
const NOT_GOING = "No run of this node is going, or its last chunk is being made.";

/** The box of one sampler. `hear(detail)` takes the host's event head_forcing.scenes; `forget()` says that one may have
 * been missed. */
export class LivePrompt {
  constructor(node) {
    this.node = node;
    this.run = undefined; // the last event; undefined when nothing is known, and the server is to say
    this.hasBegun = false; // whether that was the first of its run
    this.sent = undefined; // the answer to the prompt that waits
    this.schedule = "";
    this.message = ["", false];
    this.#build();
    this.#show();
  }

  hear(detail) {
    const isNext = detail.open && !this.run?.open; // in a loop a node runs several times in one prompt
    this.hasBegun = this.run?.prompt_id !== detail.prompt_id || isNext;
    this.run = detail;
    this.schedule = detail.schedule ?? "";
    if (this.hasBegun) this.#begin(detail.open);
    else this.#follow(detail);
    this.#show();
  }

  forget() {
    this.run = undefined;
    this.#show();
  }

  #begin(isOpen) {
    this.sent = undefined;
    this.message = ["", false];
    this.opened = isOpen && !this.element.open; // by the run, and not by hand
    this.element.open ||= isOpen;
  }

  #follow({ open, chunk, failed }) {
    const sent = this.sent;
    if (sent && failed) {
      this.message = [`Could not be read at ${clock(sent.second)}; the video goes on without.`, true];
    } else if (sent && chunk === sent.chunk) {
      this.message = [[`Took over at ${clock(sent.second)}.`, ...sent.notes].join(" "), false];
    } else if (sent && !open) {
      this.message = [`The run ended before ${clock(sent.second)}.`, true];
    }
    if (open && chunk !== sent?.chunk) return;
    this.sent = undefined;
    if (!open && this.opened && !this.box.value) this.element.open = false;
  }

  #build() {
    this.box = element("textarea", "hf-live-box");
    this.box.rows = 3;
    this.box.placeholder = "Type a prompt; it takes over at the next chunk.";
    this.box.setAttribute("aria-label", "Live prompt");
    this.box.maxLength = MOST_CHARACTERS;
    this.box.spellcheck = false;
    this.transition = transitionChoice();
    this.send = element("button", "hf-live-send", "Send");
    this.copy = element("button", "hf-live-copy", "Copy as schedule");
    this.copy.title = "All scenes so far, with the live ones, as a text for Prompt Schedule: it makes the video again.";
    this.told = element("p", "hf-live-told");
    this.told.setAttribute("role", "status");
    this.text = element("textarea", "hf-live-schedule");
    this.text.readOnly = true;
    this.text.hidden = true;
    this.text.setAttribute("aria-label", "The scenes as a schedule");
    this.text.addEventListener("blur", () => (this.text.hidden = true));
    const row = element("div", "hf-live-row", this.transition, this.send, this.copy);
    const title = element("summary", "hf-live-title", "Live prompt");
    this.element = element("details", "hf-live", title, this.box, row, this.told, this.text);
    this.send.type = this.copy.type = "button";
    this.send.addEventListener("click", () => this.#send());
    this.copy.addEventListener("click", () => this.#copy());
    this.box.addEventListener("input", () => this.#show());
    this.box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      event.stopPropagation(); // elsewhere it queues the workflow
      if (!this.send.disabled) this.#send();
    });
  }

  async #send() {
    const question = { text: this.box.value, transition: this.transition.value };
    this.send.disabled = true; // until it is answered
    try {
      this.sent = await this.#asked(question);
      const instead = this.sent.replaced ? ", instead of the one that waited" : "";
      this.message = [[`Takes over at ${clock(this.sent.second)}${instead}.`, ...this.sent.notes].join(" "), false];
      if (this.run?.open) this.#follow(this.run); // it may have taken over before the answer was here
      this.box.select(); // what is typed next takes its place
    } catch (error) {
      this.message = [error.message, true];
    }
    this.#show();
  }

  async #asked(question) {
    let refusal;
    for (const id of this.run?.open ? [this.run.node_id] : idsOf(this.node)) {
      try {
        return await ask(ROUTE, { node_id: id, ...question });
      } catch (error) {
        refusal = error;
      }
    }
    throw refusal;
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.schedule);
      this.message = ["Copied. Paste it into the text of Prompt Schedule.", false];
    } catch {
      this.text.value = this.schedule;
      this.text.hidden = false;
      this.text.focus();
      this.text.select();
      this.message = ["This page may not copy by itself. The text is selected: press Ctrl+C.", false];
    }
    this.#show();
  }

  #show() {
    const reason = this.run && !this.run.open && !this.hasBegun ? NOT_GOING : "";
    const [text, failed] = this.message;
    this.send.disabled = Boolean(reason) || !this.box.value.trim();
    this.send.title = reason || "Ctrl+Enter";
    this.copy.disabled = !this.schedule;
    if (this.told.textContent !== (text || reason)) this.told.textContent = text || reason;
    this.told.hidden = !text && !reason;
    this.told.classList.toggle("hf-error", failed);
  }
}

function transitionChoice() {
  const [, { options, tooltip }] = window.LiteGraph.registered_node_types[SCHEDULE].nodeData.input.optional.transition;
  const choice = element("select", "hf-live-transition", ...options.map((word) => element("option", "", word)));
  choice.title = tooltip;
  choice.setAttribute("aria-label", "Transition");
  return choice;
}
