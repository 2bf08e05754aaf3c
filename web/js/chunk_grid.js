// Where chunks start in a video, of what the server answered, and where a scene may begin among them.
const TIME_STRIDE = 4; // pictures a frame, but for the first one of a video, which is one picture

/** The starts of chunks, and the chunks on which the scenes of an answer begin. `goesOn`: the video has a beginning. */
export class ChunkGrid {
  constructor({ scenes, chunk_frames: frames, fps }, goesOn) {
    this.step = (TIME_STRIDE * frames) / fps;
    this.chunks = scenes.map(({ chunk }) => chunk);
    const later = scenes.find(({ chunk }) => chunk > 0);
    this.lead = goesOn ? 0 : (1 - TIME_STRIDE) / fps;
    if (later) this.lead = later.start_second - later.chunk * this.step;
  }

  start(chunk) {
    return chunk ? chunk * this.step + this.lead : 0;
  }

  nearest(second) {
    return Math.max(0, Math.round((second - this.lead) / this.step));
  }

  /** The chunk nearest to one on which a scene may begin: behind the scene before it, before the one behind it. */
  movable(index, chunk) {
    return this.#within(this.chunks[index - 1], this.chunks[index + 1], chunk);
  }

  /** The chunk nearest to a second on which one more scene may begin inside of a scene; undefined if there is none. */
  free(index, second) {
    const chunk = this.#within(this.chunks[index], this.chunks[index + 1], this.nearest(second));
    return chunk > this.chunks[index] ? chunk : undefined;
  }

  #within(before, after = Infinity, chunk) {
    return Math.min(after - 1, Math.max(before + 1, chunk));
  }
}
