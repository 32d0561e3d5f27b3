// Where the page's data come from: a server that may be training, or blocks inside the page itself. Both answer alike;
// what only a server can do is refused by the other with its reason.

import { decodeMesh, decodePlanes } from "./binary.js";

/** @typedef {import("./binary.js").Planes} Planes */
/** @typedef {import("./binary.js").Mesh} Mesh */
/** @typedef {{ empty: string }} Empty */
/** @typedef {"continuous" | "binary"} Representation */
/**
 * @typedef {object} Run
 * @property {string} id
 * @property {string} name
 * @property {Representation} representation
 * @property {string} latent kind of the latent
 * @property {string} preset
 * @property {number} planes pixels along an edge of a plane
 * @property {"training" | "done" | "stopped"} state
 * @property {number} step
 * @property {number} steps
 * @property {string[]} meshes
 * @property {string | null} pair the run of the same first mesh with the other representation
 * @property {("own" | "second-stage")[]} priors
 */
/**
 * @typedef {object} MoreOfRun
 * @property {string} config TOML
 * @property {Record<string, any> | null} summary summary.json
 * @property {number[]} snapshots steps
 * @property {number} grid points along an edge of the marching-cubes grid
 * @property {number} iso
 * @property {number[]} latent_shape
 * @property {number} patch pixels of a plane that a latent site covers
 * @property {number} [reach] pixels beyond its patch that an edited site reaches
 * @property {{ scale?: number } | null} transform
 */
/** @typedef {Run & MoreOfRun} RunDetails */
/** @typedef {Record<string, (number | null)[]>} Columns the columns of metrics.csv */
/**
 * @typedef {object} Stroke
 * @property {number} view
 * @property {"raise" | "lower" | "smooth" | "paint" | "erase"} mode
 * @property {number} radius pixels
 * @property {number} amount 0 to 1
 * @property {[number, number][]} points x and y in pixels from the top left corner
 */
/** @typedef {{ latent: string, changed_sites: number, outside: number, milliseconds: number }} Edited */
/** @typedef {{ latent: string, name: string, mesh: number }} Encoded */
/**
 * @typedef {object} Listeners
 * @property {(run: Run) => void} run
 * @property {(step: { id: string, step: number, steps: number, loss: number }) => void} step
 * @property {(snapshot: { id: string, step: number }) => void} snapshot
 * @property {(gone: { id: string }) => void} gone
 * @property {(connected: boolean) => void} connected
 */
/**
 * @typedef {object} Source
 * @property {boolean} live whether there is a server
 * @property {string} reason why something cannot be done here
 * @property {() => Promise<Run[]>} runs
 * @property {(id: string) => Promise<RunDetails>} run
 * @property {(id: string, from: number) => Promise<Columns>} metrics
 * @property {(id: string, of: string) => Promise<Planes>} planes
 * @property {(id: string, of: string, iso: number, distance: boolean) => Promise<Mesh | Empty>} mesh
 * @property {(id: string, a: string, b: string, t: number) => Promise<string>} interpolate
 * @property {(id: string, prior: string, seed: number, index: number) => Promise<string>} sample
 * @property {(id: string, mesh: number, latent: string | null, strokes: Stroke[]) => Promise<Edited>} edit
 * @property {(id: string, file: File) => Promise<Encoded>} encode
 * @property {(listeners: Listeners) => void} listen
 */

/** What the server said against a request, with its status. */
export class Refusal extends Error {
  /** @param {number} status @param {string} text */
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** @implements {Source} */
export class ServerSource {
  live = true;
  reason = "";

  /**
   * @param {string} path
   * @param {RequestInit} [request]
   */
  async ask(path, request) {
    /** @type {Response} */
    let response;
    try {
      response = await fetch(path, request);
    } catch {
      throw new Refusal(0, "The server does not answer. Is hexcuda serve still running?");
    }
    if (response.ok) return response;
    let text = `The server answered ${response.status} ${response.statusText}.`;
    try {
      text = (await response.json()).error || text;
    } catch { /* an answer without a line of its own */ }
    throw new Refusal(response.status, text);
  }

  /** @param {string} id @param {string} [rest] */
  address(id, rest = "") { return `/api/runs/${encodeURIComponent(id)}${rest}`; }

  /** @param {string} id @param {string} verb @param {object} body */
  async post(id, verb, body) {
    const headers = { "Content-Type": "application/json" };
    return (await this.ask(this.address(id, `/${verb}`), { method: "POST", headers, body: JSON.stringify(body) })).json();
  }

  /** @returns {Promise<Run[]>} */
  async runs() { return (await this.ask("/api/runs")).json(); }

  /** @param {string} id @returns {Promise<RunDetails>} */
  async run(id) { return (await this.ask(this.address(id))).json(); }

  /** @param {string} id @param {number} from @returns {Promise<Columns>} */
  async metrics(id, from) { return (await (await this.ask(this.address(id, `/metrics?from=${from}`))).json()).columns; }

  /** @param {string} id @param {string} of */
  async planes(id, of) { return decodePlanes(await (await this.ask(this.address(id, `/planes?of=${of}`))).arrayBuffer()); }

  /** @param {string} id @param {string} of @param {number} iso @param {boolean} distance @returns {Promise<Mesh | Empty>} */
  async mesh(id, of, iso, distance) {
    const level = Number(iso.toFixed(4));
    const response = await this.ask(this.address(id, `/mesh?of=${of}&iso=${level}${distance ? "&distance=1" : ""}`));
    if ((response.headers.get("Content-Type") || "").includes("json")) return response.json();
    return decodeMesh(await response.arrayBuffer());
  }

  /** @param {string} id @param {string} a @param {string} b @param {number} t @returns {Promise<string>} */
  async interpolate(id, a, b, t) { return (await this.post(id, "interpolate", { a, b, t })).latent; }

  /** @param {string} id @param {string} prior @param {number} seed @param {number} index @returns {Promise<string>} */
  async sample(id, prior, seed, index) { return (await this.post(id, "sample", { prior, seed, index })).latent; }

  /** @param {string} id @param {number} mesh @param {string | null} latent @param {Stroke[]} strokes @returns {Promise<Edited>} */
  edit(id, mesh, latent, strokes) { return this.post(id, "edit", { latent, mesh, strokes }); }

  /** @param {string} id @param {File} file @returns {Promise<Encoded>} */
  async encode(id, file) {
    const query = `/encode?name=${encodeURIComponent(file.name)}`;
    return (await this.ask(this.address(id, query), { method: "POST", body: file })).json();
  }

  /** @param {Listeners} listeners */
  listen(listeners) {
    let pause = 1000;
    const open = () => {
      const stream = new EventSource("/api/events");
      stream.onopen = () => { pause = 1000; listeners.connected(true); };
      stream.onerror = () => {
        listeners.connected(false);
        // The browser reconnects by itself unless the answer was no stream at all, as while the server restarts.
        if (stream.readyState !== EventSource.CLOSED) return;
        setTimeout(open, pause);
        pause = Math.min(30000, 2 * pause);
      };
      for (const kind of /** @type {const} */ (["run", "step", "snapshot", "gone"]))
        stream.addEventListener(kind, (event) => listeners[kind](JSON.parse(event.data)));
    };
    open();
  }
}

/**
 * What the page holds where it is a file: details and curves of runs, and the name of the block of each plane and mesh
 * by "RUN planes SOURCE" and "RUN mesh SOURCE"; `empty` says for meshes without a surface why.
 * @typedef {{ runs: RunDetails[], metrics: Record<string, Columns>, blocks: Record<string, string>, empty?: Record<string, string> }} Held
 */

/** @implements {Source} */
export class StaticSource {
  live = false;
  reason = "This page is a file and computes nothing: open the run with \u201chexcuda serve\u201d for this.";

  /** @param {Held} held */
  constructor(held) { this.held = held; }

  /** @param {string} key @returns {Promise<ArrayBuffer>} */
  async block(key) {
    const element = document.getElementById(this.held.blocks[key] || "");
    if (!element) throw new Refusal(404, `This file does not hold ${key.split(" ").slice(1).join(" of ")}.`);
    const packed = Uint8Array.from(atob((element.textContent || "").trim()), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Response(stream).arrayBuffer();
  }

  /** @returns {Promise<Run[]>} */
  async runs() { return this.held.runs; }

  /** @param {string} id @returns {Promise<RunDetails>} */
  async run(id) {
    const found = this.held.runs.find((run) => run.id === id);
    if (!found) throw new Refusal(404, `This file does not hold the run ${id}.`);
    return found;
  }

  /** @param {string} id @param {number} from @returns {Promise<Columns>} */
  async metrics(id, from) { return from === 0 ? this.held.metrics[id] || {} : {}; }

  /** @param {string} id @param {string} of */
  async planes(id, of) { return decodePlanes(await this.block(`${id} planes ${of}`)); }

  /** @param {string} id @param {string} of @returns {Promise<Mesh | Empty>} */
  async mesh(id, of) {
    const key = `${id} mesh ${of}`, empty = this.held.empty && this.held.empty[key];
    return empty ? { empty } : decodeMesh(await this.block(key));
  }

  /** @returns {Promise<never>} */
  async refuse() { throw new Refusal(0, this.reason); }
  interpolate() { return this.refuse(); }
  sample() { return this.refuse(); }
  edit() { return this.refuse(); }
  encode() { return this.refuse(); }
  listen() { /* nothing changes in a file */ }
}

/** @returns {Source} */
export function openSource() {
  const held = document.getElementById("hexcuda-data");
  return held ? new StaticSource(JSON.parse(held.textContent || "")) : new ServerSource();
}
