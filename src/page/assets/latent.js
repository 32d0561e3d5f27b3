// Work with latents: between two meshes, from a prior, and of a mesh that is dropped on the page.

import { byId, counted, fillSelect, latestOnly } from "./dom.js";
import { fail, say } from "./tabs.js";

/** @typedef {import("./source.js").Source} Source */
/** @typedef {import("./source.js").RunDetails} RunDetails */
/**
 * What the middle and the right pane show: the decoded mesh, a snapshot of it, or a latent of one's own. `again` makes
 * the same latent with another run.
 * @typedef {{ kind: "decoded" } | { kind: "snapshot", step: number } | LatentSubject} Subject
 */
/** @typedef {{ kind: "latent", token: string, label: string, by: "interpolate" | "sample" | "edit" | "drop", again: ((run: RunDetails) => Promise<string>) | null }} LatentSubject */
/** A dropped mesh, and its place in the runs that have encoded it. @typedef {{ name: string, file: File, places: Map<string, { mesh: number, token: string }> }} Dropped */
/**
 * What the tools need of the page.
 * @typedef {object} Bench
 * @property {Source} source
 * @property {RunDetails | null} run
 * @property {number} mesh
 * @property {Subject} subject
 * @property {Dropped[]} dropped
 * @property {(subject: Subject, mesh?: number) => Promise<void>} show
 * @property {() => void} meshesChanged
 */

/** Names of all meshes of the run, dropped ones too, by their index. @param {Bench} bench @returns {[number, string][]} */
export function meshesOf(bench) {
  const { run } = bench;
  if (!run) return [];
  /** @type {[number, string][]} */
  const all = run.meshes.map((name, index) => [index, name]);
  for (const one of bench.dropped) {
    const place = one.places.get(run.id);
    if (place) all.push([place.mesh, `${one.name} (dropped)`]);
  }
  return all;
}

/**
 * Says why controls cannot be used, in their title and in a line, and disables them.
 * @param {string} panel
 * @param {string} line id of the paragraph
 * @param {string} reason empty: they can
 */
export function allow(panel, line, reason) {
  const why = byId(line, HTMLElement);
  why.textContent = reason;
  why.hidden = !reason;
  for (const control of byId(panel, HTMLElement).querySelectorAll("input, select, button")) {
    if (!(control instanceof HTMLInputElement || control instanceof HTMLSelectElement || control instanceof HTMLButtonElement)) continue;
    control.disabled = !!reason;
    if (!reason) { if (control.dataset.why) control.removeAttribute("title"); delete control.dataset.why; }
    else if (!control.title) { control.title = reason; control.dataset.why = "1"; }
  }
}

/** @param {Bench} bench */
export function startInterpolation(bench) {
  const a = byId("between-a", HTMLSelectElement), b = byId("between-b", HTMLSelectElement);
  const slider = byId("between-t", HTMLInputElement), text = byId("between-text", HTMLOutputElement);
  const move = latestOnly(async (/** @type {number} */ t) => {
    const { run } = bench;
    if (!run) return;
    try {
      const from = a.value, to = b.value, names = [a, b].map((select) => select.selectedOptions[0]?.text || "");
      const token = await bench.source.interpolate(run.id, from, to, t);
      if (bench.run !== run) return;
      // A latent belongs to one network: only ways between meshes can be taken again with another.
      const again = from.startsWith("input:") && to.startsWith("input:")
        ? (/** @type {RunDetails} */ other) => bench.source.interpolate(other.id, placeIn(other, run, names[0], from), placeIn(other, run, names[1], to), t) : null;
      await bench.show({ kind: "latent", token, by: "interpolate", again, label: `${Math.round(100 * t)} % from ${names[0]} to ${names[1]}` });
    } catch (error) { fail(error); }
  });
  const moved = () => {
    const t = Number(slider.value);
    text.textContent = `${Math.round(100 * t)} %`;
    move(t);
  };
  slider.oninput = moved;
  a.onchange = b.onchange = moved;

  return () => {
    const { run, subject } = bench;
    if (!run) return;
    /** @type {[string, string][]} */
    const options = meshesOf(bench).map(([index, name]) => [`input:${index}`, name]);
    for (const select of [a, b]) {
      const own = [...options], kept = select.selectedOptions[0];
      if (subject.kind === "latent" && subject.by !== "interpolate") own.push([`latent:${subject.token}`, `shown now: ${subject.label}`]);
      // A latent that was chosen stays while the way from it is shown.
      else if (kept && kept.value.startsWith("latent:") && subject.kind === "latent") own.push([kept.value, kept.text]);
      fillSelect(select, own);
    }
    if (b.dataset.of !== run.id) {
      b.dataset.of = run.id;
      if (a.value === b.value && b.options.length > 1) b.selectedIndex = 1;
    }
    const alone = options.length < 2 && subject.kind !== "latent";
    allow("panel-interpolate", "interpolate-why", !bench.source.live ? bench.source.reason : alone ? "This run has one mesh. Drop another on the page, or draw one from a prior, to slide between them." : "");
  };
}

/** The same mesh in another run, by name. @param {RunDetails} other @param {RunDetails} run @param {string} name @param {string} source */
function placeIn(other, run, name, source) {
  const index = other.meshes.indexOf(run.meshes[Number(source.slice(6))] ?? name);
  if (index < 0) throw new Error(`The run ${other.name} has no mesh called ${name}.`);
  return `input:${index}`;
}

/** @param {Bench} bench */
export function startSampling(bench) {
  const prior = byId("prior", HTMLSelectElement), seed = byId("seed", HTMLInputElement), index = byId("index", HTMLInputElement);
  const draw = latestOnly(async () => {
    const { run } = bench;
    if (!run || !prior.value) return;
    const which = prior.value, s = Number(seed.value), i = Number(index.value);
    try {
      const token = await bench.source.sample(run.id, which, s, i);
      if (bench.run !== run) return;
      const again = (/** @type {RunDetails} */ other) => {
        if (!other.priors.some((has) => has === which)) throw new Error(`The run ${other.name} has no such prior.`);
        return bench.source.sample(other.id, which, s, i);
      };
      await bench.show({ kind: "latent", token, by: "sample", again, label: `sample ${counted(i)} of seed ${s}${which === "own" ? "" : ", second stage"}` });
    } catch (error) { fail(error); }
  });
  byId("draw", HTMLButtonElement).onclick = () => draw();
  byId("draw-next", HTMLButtonElement).onclick = () => { index.value = String(Number(index.value) + 1); draw(); };

  return () => {
    const { run } = bench;
    if (!run) return;
    fillSelect(prior, run.priors.map((which) => [which, which === "own" ? "its own" : "second stage"]));
    const none = `A ${run.latent} latent has no prior of its own. Fit one with \u201chexcuda prior\u201d to draw from it.`;
    allow("panel-sample", "sample-why", !bench.source.live ? bench.source.reason : run.priors.length ? "" : none);
  };
}

/** @param {Bench} bench @param {() => void} opened called when a file comes, to open its tab */
export function startDropping(bench, opened) {
  const file = byId("file", HTMLInputElement), veil = byId("veil", HTMLElement);
  /** @param {File} mesh */
  const take = async (mesh) => {
    const { run } = bench;
    if (!run || !bench.source.live) return say(bench.source.reason);
    if (mesh.size > 64 * 1024 * 1024) return say(`${mesh.name} has ${counted(Math.round(mesh.size / 1048576))} MiB; the server takes 64.`);
    opened();
    say(`Encoding ${mesh.name}\u2026`);
    try {
      /** @type {Dropped} */
      const one = { name: mesh.name.replace(/\.[^.]+$/, ""), file: mesh, places: new Map() };
      const place = await encodeIn(bench, one, run);
      bench.dropped.push(one);
      bench.meshesChanged();
      say("");
      if (bench.run === run) await bench.show(subjectOf(bench, one, place.token), place.mesh);
    } catch (error) { fail(error); }
  };
  file.onchange = () => { const chosen = file.files && file.files[0]; if (chosen) void take(chosen); file.value = ""; };
  const holds = (/** @type {DragEvent} */ event) => !!event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  let depth = 0;
  addEventListener("dragenter", (event) => { if (holds(event)) { depth++; veil.hidden = false; } });
  addEventListener("dragleave", (event) => { if (holds(event) && --depth <= 0) veil.hidden = true; });
  addEventListener("dragover", (event) => { if (holds(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!event.dataTransfer || !holds(event)) return;
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    if (event.dataTransfer.files[0]) void take(event.dataTransfer.files[0]);
  });
  return () => allow("panel-drop", "drop-why", bench.source.live ? "" : bench.source.reason);
}

/** @param {Bench} bench @param {Dropped} one @param {RunDetails} run */
export async function encodeIn(bench, one, run) {
  const known = one.places.get(run.id);
  if (known) return known;
  const { latent, name, mesh } = await bench.source.encode(run.id, one.file);
  const place = { mesh, token: latent };
  one.name = name || one.name;
  one.places.set(run.id, place);
  return place;
}

/** @param {Bench} bench @param {Dropped} one @param {string} token @returns {LatentSubject} */
export function subjectOf(bench, one, token) {
  return { kind: "latent", token, by: "drop", label: `${one.name}, decoded`, again: async (run) => (await encodeIn(bench, one, run)).token };
}
