// The brush: a stroke goes to the server, which paints it on the decoded planes, encodes again what lies under it and
// answers with a new latent. Undo goes back to the latent before: nothing is computed again.

import { byId, counted, make, plain } from "./dom.js";
import { allow } from "./latent.js";
import { fail, say } from "./tabs.js";

/** @typedef {import("./latent.js").Bench} Bench */
/** @typedef {import("./latent.js").Subject} Subject */
/** @typedef {import("./source.js").Stroke} Stroke */
/** @typedef {import("./views.js").Net} Net */
/** @typedef {{ subject: Subject, token: string | null, outside: number, sites: number, server: number, seen: number }} Stage */

const MODES = /** @type {const} */ ({ continuous: ["raise", "lower", "smooth"], binary: ["paint", "erase"] });

export class Editor {
  /** @param {Bench} bench @param {Net} net */
  constructor(bench, net) {
    this.bench = bench;
    this.net = net;
    this.open = false;
    /** What was shown before and after each stroke. @type {Stage[]} */
    this.stages = [];
    this.at = 0;
    /** Strokes wait for each other: each is drawn on the latent that the one before gave. */
    this.queue = Promise.resolve();
    /** Strokes that are not on the screen yet. */
    this.sending = 0;
    this.modes = byId("mode", HTMLFieldSetElement);
    this.radius = byId("radius", HTMLInputElement);
    this.strength = byId("strength", HTMLInputElement);
    this.undoButton = byId("undo", HTMLButtonElement);
    this.redoButton = byId("redo", HTMLButtonElement);
    this.figure = byId("edit-figure", HTMLElement);
    /** The run and the mesh that the server has ready. */
    this.warmed = "";
    this.undoButton.onclick = () => this.go(-1);
    this.redoButton.onclick = () => this.go(1);
    this.radius.oninput = this.strength.oninput = () => this.read();
    net.onStroke = (view, points) => {
      this.sending++;
      this.queue = this.queue.then(() => this.send(view, points)).finally(() => { this.sending--; });
    };
    addEventListener("keydown", (event) => {
      if (!this.open || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
      event.preventDefault();
      this.go(event.shiftKey ? 1 : -1);
    });
  }

  /** Takes the brush into the hand or lays it down. @param {boolean} open */
  setOpen(open) {
    this.open = open;
    this.warm();
    this.read();
  }

  /** Lets the server read the network and encode what is shown before the first stroke needs it: an edit of nothing. */
  warm() {
    const { run, mesh, source } = this.bench, key = run ? `${run.id} ${mesh}` : "";
    if (!run || !this.open || this.blocked || run.state === "training" || this.warmed === key) return;
    this.warmed = key;
    source.edit(run.id, mesh, null, []).catch(() => { /* the first stroke will say it */ });
  }

  /** The page shows something else now, or another run. */
  refresh() {
    const { run, source, subject } = this.bench;
    if (!run) return;
    const names = MODES[run.representation];
    if (this.modes.dataset.of !== run.representation) {
      this.modes.dataset.of = run.representation;
      this.modes.replaceChildren(this.modes.children[0], ...names.map((name, i) => make("label", {},
        make("input", { type: "radio", name: "mode", value: name, checked: i === 0 }), make("span", {}, name[0].toUpperCase() + name.slice(1)))));
    }
    const here = this.stages[this.at];
    const own = here && (here.subject === subject || (subject.kind === "latent" && here.token === subject.token));
    if (!own) {
      this.stages = [{ subject, token: subject.kind === "latent" ? subject.token : null, outside: 0, sites: 0, server: 0, seen: 0 }];
      this.at = 0;
    }
    const reason = !source.live ? source.reason : subject.kind === "snapshot" ? "A snapshot cannot be edited: move the scrubber to its end." : "";
    allow("panel-edit", "edit-why", reason);
    this.blocked = !!reason;
    this.warm();
    byId("strength-label", HTMLElement).hidden = run.representation === "binary";
    this.read();
  }

  read() {
    const { run } = this.bench;
    if (!run) return;
    const radius = Number(this.radius.value);
    byId("radius-text", HTMLOutputElement).textContent = `${radius} px`;
    byId("strength-text", HTMLOutputElement).textContent = `${Math.round(100 * Number(this.strength.value))} %`;
    this.net.brush = this.open && !this.blocked ? { radius } : null;
    this.net.root.classList.toggle("painting", !!this.net.brush);
    if (!this.blocked) {
      this.undoButton.disabled = this.at === 0;
      this.redoButton.disabled = this.at >= this.stages.length - 1;
    }
    const stage = this.stages[this.at];
    if (!stage || this.at === 0) {
      this.figure.textContent = "Paint on any of the six views. Only the latent under the brush is encoded again; how far the rest changed appears here.";
    } else {
      const most = Math.max(...this.stages.slice(1, this.at + 1).map((one) => one.outside));
      const where = run.reach ? `more than ${run.reach} pixels from the sites under the brush` : "beyond the brush\u2019s reach";
      const what = run.representation === "binary" ? "occupancy from 0 to 1" : "value, of a depth from 0 to 1,";
      this.figure.replaceChildren(make("b", {}, plain(most)), ` is the most that any ${what} changed ${where}. `,
        `${counted(stage.sites)} latent ${stage.sites === 1 ? "site" : "sites"} encoded again in ${plain(stage.server)} ms; on screen after ${plain(stage.seen)} ms.`);
    }
  }

  /** @param {number} view @param {[number, number][]} points */
  async send(view, points) {
    const { run, mesh, source } = this.bench, stage = this.stages[this.at];
    const mode = this.modes.querySelector("input:checked");
    if (!run || !stage || !(mode instanceof HTMLInputElement) || this.blocked) return;
    const begun = performance.now();
    /** @type {Stroke} */
    const stroke = { view, mode: /** @type {Stroke["mode"]} */ (mode.value), radius: Number(this.radius.value), amount: Number(this.strength.value), points };
    try {
      const edited = await source.edit(run.id, mesh, stage.token, [stroke]);
      if (this.bench.run !== run || this.stages[this.at] !== stage) return;
      const strokes = this.at + 1, of = this.stages[0].subject;
      /** @type {Subject} */
      const subject = { kind: "latent", token: edited.latent, by: "edit", again: null,
        label: `${of.kind === "latent" ? of.label : run.meshes[mesh] || "mesh"}, edited by ${strokes} ${strokes === 1 ? "stroke" : "strokes"}` };
      this.stages.splice(this.at + 1);
      this.stages.push({ subject, token: edited.latent, outside: edited.outside, sites: edited.changed_sites, server: edited.milliseconds, seen: 0 });
      this.at++;
      say("");
      await this.bench.show(subject);
      this.stages[this.at].seen = performance.now() - begun;
      this.read();
    } catch (error) { fail(error); }
  }

  /** @param {number} by */
  go(by) {
    const next = this.stages[this.at + by];
    if (!next) return;
    this.at += by;
    void this.bench.show(next.subject);
    this.read();
  }
}
