// What has been asked of the source already: the toggle, the scrubber and undo come back to it at once.

/** @typedef {import("./source.js").Source} Source */
/** @typedef {import("./source.js").Empty} Empty */
/** @typedef {import("./binary.js").Planes} Planes */
/** @typedef {import("./binary.js").Mesh} Mesh */

/** Answers kept; a mesh of the standard preset takes about 8 MB. */
const KEPT = 40;

export class Store {
  /** @param {Source} source */
  constructor(source) {
    this.source = source;
    /** @type {Map<string, Promise<any>>} */
    this.answers = new Map();
  }

  /**
   * @template T
   * @param {string} key
   * @param {() => Promise<T>} ask
   * @returns {Promise<T>}
   */
  once(key, ask) {
    const known = this.answers.get(key) || ask();
    this.answers.delete(key);
    this.answers.set(key, known);
    known.catch(() => { if (this.answers.get(key) === known) this.answers.delete(key); });
    for (const oldest of this.answers.keys()) {
      if (this.answers.size <= KEPT) break;
      this.answers.delete(oldest);
    }
    return known;
  }

  /** @param {string} id @param {string} of @returns {Promise<Planes>} */
  planes(id, of) { return this.once(`${id} planes ${of}`, () => this.source.planes(id, of)); }

  /** @param {string} id @param {string} of @param {number} iso @param {boolean} distance @returns {Promise<Mesh | Empty>} */
  mesh(id, of, iso, distance) { return this.once(`${id} mesh ${of} ${iso} ${distance}`, () => this.source.mesh(id, of, iso, distance)); }

  /** Drops what a run has answered: it has changed. @param {string} id */
  forget(id) {
    for (const key of this.answers.keys()) if (key.startsWith(`${id} `)) this.answers.delete(key);
  }
}
