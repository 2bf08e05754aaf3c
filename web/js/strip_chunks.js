// What is known of the chunks of a sampler's newest run: small pictures, as texts, and what each chunk read.
// Nothing that is there is asked again.
import { ask } from "./ask.js";
import { idsOf } from "./execution_ids.js";
import { isOfThisWorkflow } from "./own_runs.js";
import { runNameOf } from "./sampler_widgets.js";

const ROUTE = "/head_forcing/strip";
const MOST_ASKED = 100; // chunks in one question
const NO_NODE = ""; // of which there is no run, so that a kept one is told of
const NOTHING = { run: null, chunks: 0, made: 0, fps: 0, scenes: [], video: null };

/** The chunks of one sampler's run. `onChange()` hears when something is known that was not. */
export class StripChunks {
  #node;
  #onChange;
  #entries = new Map(); // by chunk
  #asked = new Set(); // chunks of which nothing came
  #ends = []; // the earliest and the latest chunk whose beginning is known, without the first
  #round = 0; // of questions; an answer of an earlier one is late
  #isAsking = false;
  #runningId; // under which the node was last heard of

  constructor(node, onChange) {
    this.#node = node;
    this.#onChange = onChange;
    this.run = NOTHING;
    this.problem = "";
  }

  entry(chunk) {
    return this.#entries.get(chunk);
  }

  /** The scene in which a chunk is. */
  sceneOf(chunk) {
    return this.run.scenes.findLast((scene) => scene.chunk <= chunk);
  }

  /** Take the host's event head_forcing.chunk. */
  hear({ node_id, run, entry, chunks, made, fps, video }) {
    this.#runningId = node_id;
    const isNew = run !== this.run.run;
    if (isNew) {
      this.#round += 1;
      this.#begin();
    }
    this.run = { run, chunks, made, fps, video, scenes: this.run.scenes };
    this.#keep(entry);
    this.#onChange();
    if (isNew) this.update(); // for its scenes
  }

  /** Ask anew for everything, beginning with the chunks from `first` on. */
  async refresh(first = 0) {
    this.#round += 1;
    await this.#ask(first, MOST_ASKED, true);
  }

  /** Ask what is new beside the pictures that are there: scenes, the video. */
  async update() {
    await this.#ask(this.run.made, 1, false);
  }

  /** Ask for what is not known yet of the chunks from `first` to `last`, and of some around them. */
  fill(first, last) {
    if (this.#isAsking) return;
    const isMissing = (chunk) => !this.#entries.has(chunk) && !this.#asked.has(chunk);
    const until = Math.min(last + 1, this.run.made);
    let from = Math.max(0, first);
    while (from < until && !isMissing(from)) from += 1;
    if (from >= until) return;
    let end = from + 1;
    while (from % MOST_ASKED && isMissing(from - 1)) from -= 1;
    while (end - from < MOST_ASKED && end < this.run.made && isMissing(end)) end += 1;
    this.#isAsking = true;
    this.#ask(from, end - from, false).then(() => (this.#isAsking = false));
  }

  /** At which chunk a second of the video is: 2.5 is in the middle of the third. */
  placeOf(second) {
    const [place, pace] = this.#pace();
    const found = place.chunk + (second - place.second) / pace;
    const first = this.#entries.get(0)?.second ?? 0;
    const begins = place.second + (1 - place.chunk) * pace; // the second chunk: the first may be shorter
    return found < 1 ? Math.max(0, (second - first) / (begins - first)) : found;
  }

  /** At which second of the video a chunk begins. */
  secondOf(chunk) {
    const [place, pace] = this.#pace();
    return this.#entries.get(chunk)?.second ?? place.second + (chunk - place.chunk) * pace;
  }

  #pace() {
    const [early, late] = this.#ends;
    const first = this.#entries.get(0) ?? { chunk: 0, second: 0 };
    if (!early) return [first, 1];
    const from = late === early ? first : early;
    return [late, (late.second - from.second) / (late.chunk - from.chunk)];
  }

  #begin() {
    this.#entries.clear();
    this.#asked.clear();
    this.#ends = [];
    this.run = NOTHING;
  }

  #keep(entry) {
    this.#entries.set(entry.chunk, entry);
    if (entry.chunk === 0) return;
    const [early = entry, late = entry] = this.#ends;
    this.#ends = [entry.chunk < early.chunk ? entry : early, entry.chunk > late.chunk ? entry : late];
  }

  async #ask(first, count, isAnew) {
    const round = this.#round;
    let answer;
    try {
      answer = await this.#answer({ first, count });
      this.problem = "";
    } catch (error) {
      this.problem = error.message;
    }
    if (round === this.#round) {
      if (answer) this.#take(answer, isAnew);
      const end = answer?.entries.length ? first : Math.min(first + count, this.run.made);
      for (let chunk = first; chunk < end; chunk += 1) this.#asked.add(chunk); // asking again would bring no more
    }
    this.#onChange();
  }

  #take({ entries, ...run }, isAnew) {
    const isSame = run.run === this.run.run;
    const made = isSame && !isAnew ? Math.max(run.made, this.run.made) : run.made; // an event may have come meanwhile
    if (isAnew || !isSame) this.#begin();
    this.run = { ...run, made };
    for (const entry of entries) this.#keep(entry);
  }

  async #answer(range) {
    const run_name = runNameOf(this.#node);
    const ids = idsOf(this.#node);
    if (ids.includes(this.#runningId)) ids.unshift(this.#runningId);
    for (const node_id of [...ids, NO_NODE]) {
      const answer = await ask(ROUTE, { node_id, run_name, ...range });
      if (answer.run !== null && (await isOurs(answer.run))) return answer;
    }
    return { ...NOTHING, entries: [] };
  }
}

// a run of this ComfyUI is called by its prompt and its node, one that lies on the disk otherwise
const isOurs = (run) => !run.includes("/") || isOfThisWorkflow(run.split("/")[0]);
