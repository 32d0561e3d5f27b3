// What the page shows, and how it gets there: the run, the mesh, the subject, and the four answers that the panes need.

import { byId, counted } from "./dom.js";
import { encodeIn } from "./latent.js";
import { fail, say } from "./tabs.js";

/** @typedef {import("./source.js").Source} Source */
/** @typedef {import("./source.js").Run} Run */
/** @typedef {import("./source.js").RunDetails} RunDetails */
/** @typedef {import("./source.js").Columns} Columns */
/** @typedef {import("./binary.js").Mesh} Mesh */
/** @typedef {import("./latent.js").Subject} Subject */
/** @typedef {import("./latent.js").Dropped} Dropped */
/** @typedef {import("./mesh.js").MeshPane} MeshPane */
/** @typedef {import("./mesh.js").Stage} Stage */
/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./views.js").Net} Net */

/** @param {unknown} error */
const lineOf = (error) => (error instanceof Error ? error.message : String(error));

/** @param {string} text */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export class Page {
  /** @param {Store} store @param {Net} net @param {Stage} stage */
  constructor(store, net, stage) {
    this.store = store;
    this.source = store.source;
    this.net = net;
    this.stage = stage;
    /** @type {Run[]} */
    this.runs = [];
    /** @type {Map<string, { run: RunDetails, columns: Columns }>} */
    this.known = new Map();
    /** @type {RunDetails | null} */
    this.run = null;
    this.mesh = 0;
    /** @type {Subject} */
    this.subject = { kind: "decoded" };
    /** @type {Dropped[]} */
    this.dropped = [];
    this.iso = 0.5;
    this.distance = false;
    this.ticket = 0;
    /** Called when another run is shown. */
    this.onRun = () => {};
    /** Called when the subject, the mesh or the run has changed, before its data come. */
    this.onSubject = () => {};
    /** Called when planes or a mesh have come. */
    this.onData = () => {};
  }

  /** @param {string} id */
  async details(id) {
    const known = this.known.get(id);
    if (known) return known;
    const [run, columns] = await Promise.all([this.source.run(id), this.source.metrics(id, 0)]);
    const found = { run, columns };
    this.known.set(id, found);
    return found;
  }

  /**
   * Shows another run; with `keep` what corresponds there to what is shown: the toggle's way.
   * @param {string} id @param {boolean} keep @param {number} [mesh]
   */
  async open(id, keep, mesh = 0) {
    const ticket = ++this.ticket;
    try {
      const { run } = await this.details(id), before = this.run;
      /** @type {Subject} */
      let subject = { kind: "decoded" };
      let place = mesh;
      if (keep && before) ({ subject, mesh: place } = await this.counterpart(before, run));
      if (ticket !== this.ticket) return;
      this.run = run;
      this.mesh = Math.max(0, place);
      this.iso = run.iso;
      this.onRun();
      await this.show(subject);
    } catch (error) {
      if (ticket === this.ticket) { fail(error); this.onRun(); }
    }
  }

  /**
   * What corresponds in `other` to what is shown of `run`.
   * @param {RunDetails} run @param {RunDetails} other
   * @returns {Promise<{ subject: Subject, mesh: number }>}
   */
  async counterpart(run, other) {
    const { subject } = this, one = this.dropped.find((mesh) => mesh.places.get(run.id)?.mesh === this.mesh);
    let mesh = Math.max(0, other.meshes.indexOf(run.meshes[this.mesh]));
    if (subject.kind === "snapshot" && other.snapshots.length) {
      const share = subject.step / Math.max(1, run.step), at = (/** @type {number} */ step) => Math.abs(step / Math.max(1, other.step) - share);
      return { subject: { kind: "snapshot", step: other.snapshots.reduce((a, b) => (at(b) < at(a) ? b : a)) }, mesh: 0 };
    }
    if (subject.kind !== "latent") return { subject: { kind: "decoded" }, mesh };
    if (!subject.again) return { subject: { kind: "decoded" }, mesh };
    try {
      if (one) mesh = (await encodeIn(this, one, other)).mesh;
      return { subject: { ...subject, token: await subject.again(other) }, mesh };
    } catch (error) {
      say(lineOf(error));
      return { subject: { kind: "decoded" }, mesh };
    }
  }

  meshesChanged() { this.onRun(); }

  /** @param {Subject} subject @param {number} [mesh] */
  async show(subject, mesh = this.mesh) {
    this.subject = subject;
    this.mesh = mesh;
    this.onSubject();
    await this.load();
  }

  /** What the server is asked for. While a run trains its newest snapshot stands for the decoded mesh. */
  wanted() {
    const { run, subject, mesh } = this;
    if (subject.kind === "latent") return `latent:${subject.token}`;
    if (subject.kind === "snapshot") return `snapshot:${subject.step}`;
    if (run && run.state === "training" && mesh === 0 && run.snapshots.length) return `snapshot:${run.snapshots[run.snapshots.length - 1]}`;
    return `decoded:${mesh}`;
  }

  async load() {
    const { run, net, stage, store } = this;
    if (!run) return;
    const ticket = ++this.ticket, of = this.wanted(), current = () => ticket === this.ticket;
    const slow = setTimeout(() => document.body.classList.add("busy"), 200);
    const planes = (/** @type {string} */ source, /** @type {"input" | "decoded"} */ place) => store.planes(run.id, source).then(
      (found) => { if (current()) { net[place] = found; net.draw(); this.onData(); } },
      (error) => { if (current()) { net[place] = null; net.draw(); this.onData(); this.failed(error); } });
    await Promise.all([planes(`input:${this.mesh}`, "input"), planes(of, "decoded"),
      this.loadMesh(stage.panes[0], `source:${this.mesh}`, run.iso, false, current), this.loadMesh(stage.panes[1], of, this.iso, this.distance, current)]);
    clearTimeout(slow);
    if (!current()) return;
    document.body.classList.remove("busy");
    this.prefetch();
  }

  /**
   * @param {MeshPane} pane @param {string} of @param {number} iso @param {boolean} distance @param {() => boolean} current
   */
  async loadMesh(pane, of, iso, distance, current) {
    const { run } = this;
    if (!run) return;
    /** @type {Mesh | null} */
    let mesh = null;
    let message = "";
    try {
      const found = await this.store.mesh(run.id, of, iso, distance);
      if ("empty" in found) message = `${sentence(found.empty)}.${this.source.live && of !== `source:${this.mesh}` ? " A lower level may have one." : ""}`;
      else if (!found.indices.length) message = "No surface: this mesh has no triangles.";
      else mesh = found;
    } catch (error) {
      message = sentence(lineOf(error));
      if (current()) this.failed(error);
    }
    if (!current()) return;
    if (pane.mesh !== mesh || !mesh) pane.show(mesh, message);
    this.onData();
    this.stage.redrawPane(this.stage.panes.indexOf(pane));
  }

  /** Extracts the surface again: another level, or distances beside it. */
  async remesh() {
    const ticket = this.ticket, of = this.wanted();
    await this.loadMesh(this.stage.panes[1], of, this.iso, this.distance, () => ticket === this.ticket);
  }

  /** @param {unknown} error */
  failed(error) {
    const status = error instanceof Error && "status" in error ? error.status : 0;
    if (status === 410) say("This run has been deleted.");
    else if (status === 409 && this.run) {
      this.store.forget(this.run.id);
      say("The run has changed meanwhile: what you see may be of its state before. Choose it again to see the new one.");
    } else if (this.subject.kind === "latent") fail(error);
  }

  /** The other side of the toggle, so that it switches at once. */
  async prefetch() {
    const { run } = this, pair = run && run.pair;
    if (!pair || run.state === "training" || this.subject.kind !== "decoded") return;
    await new Promise((done) => setTimeout(done, 300));
    if (this.run !== run) return;
    try {
      const { run: other } = await this.details(pair), mesh = Math.max(0, other.meshes.indexOf(run.meshes[this.mesh]));
      if (other.state === "training") return;
      await Promise.all([this.store.planes(pair, `input:${mesh}`), this.store.planes(pair, `decoded:${mesh}`),
        this.store.mesh(pair, `source:${mesh}`, other.iso, false), this.store.mesh(pair, `decoded:${mesh}`, other.iso, this.distance)]);
    } catch { /* whoever turns the toggle will be told */ }
  }

  /** A token for what is shown, made where it has none. */
  async token() {
    const { run, subject, mesh } = this;
    if (!run) throw new Error("No run is shown.");
    if (subject.kind === "latent") return subject.token;
    return this.source.interpolate(run.id, `input:${mesh}`, `input:${mesh}`, 0);
  }

  /** Saves the latent or the mesh as the server has it, in the units of the input. @param {string} ending */
  async save(ending) {
    try {
      const link = document.createElement("a");
      link.href = `/api/latents/${await this.token()}.${ending}`;
      link.download = "";
      document.body.append(link);
      link.click();
      link.remove();
    } catch (error) { fail(error); }
  }

  /** One line on what is in the middle and at the right. */
  label() {
    const { run, subject, mesh } = this;
    if (!run) return "";
    if (subject.kind === "latent") return subject.label;
    const name = run.meshes[mesh] || "mesh";
    if (subject.kind === "snapshot") return `${name} at step ${counted(subject.step)}`;
    return run.state === "training" && run.snapshots.length && mesh === 0 ? `${name} at step ${counted(run.snapshots[run.snapshots.length - 1])}, live` : name;
  }

  /** The run's state in words. */
  state() {
    const { run } = this;
    if (!run) return "";
    if (run.state === "training") return `Training: step ${counted(run.step)} of ${counted(run.steps)}`;
    return run.state === "stopped" ? `Stopped at step ${counted(run.step)} of ${counted(run.steps)}` : `Trained, ${counted(run.steps)} steps`;
  }
}

/** Draws the state's line, its dot and the document's title. @param {Page} page @param {boolean} connected */
export function showState(page, connected) {
  const { run } = page;
  byId("state-text", HTMLElement).textContent = connected ? page.state() : "Reconnecting\u2026";
  byId("dot", HTMLElement).className = `dot ${connected ? (run ? run.state : "") : "lost"}`;
  const bar = document.documentElement, share = run && run.state === "training" ? run.step / Math.max(1, run.steps) : 0;
  bar.style.setProperty("--progress", `${Math.round(1000 * share) / 10}%`);
  if (run) document.title = `${run.state === "training" ? `${Math.round(100 * share)} % \u00b7 ` : ""}${run.name} \u00b7 hexcuda`;
}
