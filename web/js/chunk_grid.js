// Where chunks start in a video, of what the server answered, and where a scene may begin among them.

/** The starts of chunks, and the chunks on which the scenes of an answer begin. */
export class ChunkGrid {
  constructor({ scenes, chunk_starts: [second, third], chunks }) {
    this.step = third - second;
    this.lead = second - this.step;
    this.chunks = scenes.map(({ chunk }) => chunk);
    this.end = chunks ?? Infinity; // the first chunk that is not made
  }

  start(chunk) {
    return chunk ? chunk * this.step + this.lead : 0;
  }

  nearest(second) {
    return Math.max(0, Math.round((second - this.lead) / this.step));
  }

  /** The chunk nearest to one on which a scene may begin: behind the scene before it, before the one behind it, and in
   * the video if it is in it. */
  movable(index, chunk) {
    return this.#within(index - 1, index, chunk);
  }

  /** The chunk nearest to a second on which one more scene may begin inside of a scene; undefined if there is none. */
  free(index, second) {
    const chunk = this.#within(index, index, this.nearest(second));
    return chunk > this.chunks[index] ? chunk : undefined;
  }

  #within(before, index, chunk) {
    const end = this.chunks[index] < this.end ? this.end : Infinity;
    const after = Math.min(this.chunks[index + 1] ?? Infinity, end);
    return Math.min(after - 1, Math.max(this.chunks[before] + 1, chunk));
  }
}
