// The figures of a finished run: how well the mesh came back, beside the ceiling and the linear code; and its settings.

import { counted, duration, make, makeSvg, plain } from "./dom.js";

/** @typedef {import("./source.js").RunDetails} RunDetails */
/** @typedef {Record<string, any>} Json */

const COLUMNS = [["mesh", "network"], ["linear", "linear"], ["ceiling", "ceiling"]];

/** @param {RunDetails} run @param {number} mesh @returns {Json | null} */
function resultsOf(run, mesh) {
  if (!run.summary) return null;
  if (mesh === 0) return run.summary;
  return (run.summary.meshes || [])[mesh] || null;
}

/** @param {Json | null | undefined} column @param {number} threshold */
function scoreAt(column, threshold) {
  const found = ((column && column.scores) || []).find((/** @type {Json} */ score) => Math.abs(score.threshold - threshold) < 1e-6);
  return found ? found.f_score : null;
}

/** Scores of meshes near their ceiling differ in the fourth digit. @param {number | null} score */
const scored = (score) => (score === null ? "n/a" : score.toFixed(4));

/** Thresholds come as single floats. @param {number} value */
const short = (value) => String(Number(value.toPrecision(3)));

/** One line for the pane of the mesh: its F-score beside the ceiling's. @param {RunDetails} run @param {number} mesh */
export function headline(run, mesh) {
  const results = resultsOf(run, mesh);
  if (!results) return "";
  return `F at 0.01: ${scored(scoreAt(results.mesh, 0.01) ?? 0)}, ceiling ${scored(scoreAt(results.ceiling, 0.01))}`;
}

/**
 * A bar for the network, a tick for the ceiling and a short one for the linear code.
 * @param {Json} results @param {number} threshold
 */
function bullet(results, threshold) {
  const svg = makeSvg("svg", { viewBox: "0 0 100 12", class: "bullet", preserveAspectRatio: "none", "aria-hidden": "true" });
  const at = (/** @type {string} */ key) => 100 * (scoreAt(results[key], threshold) ?? 0);
  svg.append(makeSvg("rect", { class: "track", x: 0, y: 3, width: 100, height: 6 }));
  svg.append(makeSvg("rect", { class: "bar", x: 0, y: 3, width: at("mesh"), height: 6 }));
  svg.append(makeSvg("line", { class: "linear", x1: at("linear"), x2: at("linear"), y1: 3, y2: 9 }));
  svg.append(makeSvg("line", { class: "ceiling", x1: Math.min(99.4, at("ceiling")), x2: Math.min(99.4, at("ceiling")), y1: 0, y2: 12 }));
  return svg;
}

/** F-scores over all meshes of the run, and over those that were left out of it. @param {Json} summary @returns {Node[]} */
function means(summary) {
  const left = summary.held_out, sets = [[summary.mean, `Mean of ${counted((summary.meshes || []).length)} meshes`], [left && left.mean, left && `Mean of ${counted(left.meshes.length)} left out`]];
  return sets.filter(([mean]) => mean && mean.mesh).map(([mean, name]) => make("div", { class: "scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, name), ...COLUMNS.map(([, column]) => make("th", { scope: "col" }, column)))),
    make("tbody", {}, ...mean.mesh.map((/** @type {Json} */ score, /** @type {number} */ k) => make("tr", {}, make("th", { scope: "row" }, `F at ${short(score.threshold)}`),
      ...COLUMNS.map(([key]) => make("td", {}, scored(mean[key] && mean[key][k] ? mean[key][k].f_score : null)))))))));
}

/** @param {HTMLElement} root @param {RunDetails} run @param {number} mesh */
export function showFigures(root, run, mesh) {
  const results = resultsOf(run, mesh);
  if (!results) {
    root.replaceChildren(make("p", { class: "quiet" }, run.state === "training" ? "The figures come when the training ends." : "This mesh has no figures: only meshes of the run are judged."));
    return;
  }
  const scores = ((results.ceiling && results.ceiling.scores) || []).map((/** @type {Json} */ score) => score.threshold);
  /** @type {[string, (column: Json) => string][]} */
  const rows = scores.map((/** @type {number} */ threshold) => [`F at ${short(threshold)}`, (/** @type {Json} */ column) => scored(scoreAt(column, threshold))]);
  rows.push(["Chamfer L1", (column) => plain(column.chamfer_l1)], ["95 % Hausdorff", (column) => plain(column.hausdorff_95)],
    ["normals, cosine", (column) => plain(column.normal_consistency)], ["volume IoU", (column) => plain(column.volume_iou)],
    ["triangles", (column) => (column.health ? counted(column.health.faces) : "n/a")]);
  const head = make("tr", {}, make("th", { scope: "col" }, ""), ...COLUMNS.map(([, name]) => make("th", { scope: "col" }, name)));
  const body = rows.map(([name, read]) => make("tr", {}, make("th", { scope: "row" }, name), ...COLUMNS.map(([key]) => make("td", {}, results[key] ? read(results[key]) : "n/a"))));
  const middle = scores.length > 1 ? scores[1] : scores[0];
  const picture = make("div", { class: "bullet-row" }, make("span", {}, `F at ${short(middle)}`), make("span", {}, scored(scoreAt(results.mesh, middle))));
  const none = run.summary && run.summary.no_surface && run.summary.no_surface.mesh;
  root.replaceChildren(...(none ? [make("p", { class: "notice" }, `No surface at ${plain(none.iso)}: the highest occupancy is ${plain(none.highest_occupancy)}.`)] : []),
    picture, bullet(results, middle),
    make("p", { class: "quiet keys" }, ...[["network", "network"], ["linear", "linear code"], ["ceiling", "ceiling"]].map(([key, name]) => make("span", {}, make("i", { class: `tick ${key}` }), name))),
    make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body))),
    ...means(run.summary || {}),
    make("p", { class: "quiet" }, "F, volume IoU and cosine are best at 1; distances are in units of the frame. The ceiling is the mesh through the planes and back without a network; the linear code is the best linear one of the latent\u2019s size."));
}

/** @param {HTMLElement} root @param {RunDetails} run */
export function showSettings(root, run) {
  const s = run.summary || {}, latent = run.latent_shape.reduce((a, b) => a * b, 1);
  /** @type {[string, string][]} */
  const facts = [
    ["preset", run.preset],
    ["planes", `6 \u00d7 ${run.planes} \u00d7 ${run.planes}, ${run.representation}`],
    ["latent", `${run.latent}, ${run.latent_shape.join(" \u00d7 ")} = ${counted(latent)} floats`],
    ["patch", `${run.patch} pixels a latent site`],
    ["meshes", counted(run.meshes.length)],
    ["steps", run.step < run.steps ? `${counted(run.step)} of ${counted(run.steps)}` : counted(run.steps)],
    ["grid", `${run.grid}\u00b3 points, level ${run.iso}`],
  ];
  if (s.parameters) facts.push(["parameters", counted(s.parameters)]);
  if (s.seconds) facts.push(["training", `${duration(s.seconds)}, ${plain(1000 * s.seconds_per_step)} ms a step`]);
  if (s.device) facts.push(["device", s.device]);
  if (s.latent && s.latent.kl !== undefined) facts.push(["divergence", `${plain(s.latent.kl)} nats a mesh`]);
  if (s.latent && s.latent.rate) facts.push(["rate", `${counted(Math.round(s.latent.rate.bits))} bits a mesh`]);
  root.replaceChildren(make("dl", { class: "facts" }, ...facts.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)])),
    make("details", {}, make("summary", {}, "config.toml"), make("pre", {}, run.config)));
}
