// The page of a run: puts the parts together and wires the controls.

import { FAR, paintLegend } from "./colour.js";
import { Curves } from "./curves.js";
import { byId, counted, fillSelect, latestOnly, plain } from "./dom.js";
import { Editor } from "./edit.js";
import { headline, showFigures, showSettings } from "./figures.js";
import { meshesOf, startDropping, startInterpolation, startSampling, subjectOf } from "./latent.js";
import { follow, startScrubber } from "./live.js";
import { MeshPane, Stage } from "./mesh.js";
import { Page, showState } from "./page.js";
import { depthAt, markOf, showLegend, showPixel } from "./readout.js";
import { openSource } from "./source.js";
import { Store } from "./store.js";
import { fail, say, startTabs, startTheme } from "./tabs.js";
import { Net } from "./views.js";

const panes = [
  new MeshPane(byId("input-mesh", HTMLCanvasElement), byId("input-message", HTMLElement)),
  new MeshPane(byId("output-mesh", HTMLCanvasElement), byId("output-message", HTMLElement)),
];
const stage = new Stage(panes), net = new Net(byId("net", HTMLElement)), curves = new Curves(byId("curves", HTMLElement));
const page = new Page(new Store(openSource()), net, stage);
const readout = byId("readout", HTMLElement), toggle = byId("toggle", HTMLFieldSetElement);
const runSelect = byId("run", HTMLSelectElement), meshSelect = byId("mesh", HTMLSelectElement);
const iso = byId("iso", HTMLInputElement), distance = byId("distance", HTMLInputElement), farthest = byId("farthest", HTMLSelectElement);

/** @param {string} name @returns {HTMLInputElement[]} */
const radios = (name) => [...document.querySelectorAll(`input[name="${name}"]`)].filter((radio) => radio instanceof HTMLInputElement);

/** Reads the pixel under the pointer into the readout and onto both meshes. */
function readPixel() {
  const { pixel, input, decoded } = net, size = net.size();
  const depths = { input: null, decoded: /** @type {number | null} */ (null) };
  if (pixel) {
    Object.assign(depths, { input: depthAt(input, panes[0].mesh, pixel), decoded: depthAt(decoded, panes[1].mesh, pixel) });
    net.depth = net.shown === "input" ? depths.input : depths.decoded;
  }
  // While a stroke is drawn and sent the meshes keep their time for the new surface.
  if (!net.stroke && !editor.sending) [depths.input, depths.decoded].forEach((depth, i) => {
    if (panes[i].setMark(pixel ? markOf(pixel, size, depth) : null)) stage.redrawPane(i);
  });
  showPixel(readout, net, depths, (page.run && page.run.transform && page.run.transform.scale) || 1);
}

/** Lists runs and meshes, and sets the toggle. */
function showChoices() {
  const { run, runs } = page;
  fillSelect(runSelect, runs.map((one) => [one.id, one.id === "~" ? one.name : one.id.replaceAll("~", "/")]));
  if (run) runSelect.value = run.id;
  byId("pick-run", HTMLElement).hidden = runs.length < 2;
  const meshes = meshesOf(page);
  fillSelect(meshSelect, meshes.map(([index, name]) => [String(index), name]));
  meshSelect.value = String(page.mesh);
  byId("pick-mesh", HTMLElement).hidden = meshes.length < 2;
  for (const radio of radios("representation")) {
    const here = !!run && run.representation === radio.value;
    radio.checked = here;
    radio.disabled = !here && !(run && run.pair && runs.some((one) => one.id === run.pair));
    const label = radio.parentElement;
    if (label) label.title = radio.disabled ? `There is no ${radio.value} run of this mesh beside this one. \u201chexcuda demo\u201d trains such a pair.` : "";
  }
  toggle.dataset.at = run ? run.representation : "";
  document.body.classList.toggle("binary", !!run && run.representation === "binary");
  byId("look", HTMLElement).hidden = !run || run.representation === "binary";
}

/** What depends on the details of the run. */
function showRun() {
  const { run } = page;
  showChoices();
  if (!run) return;
  showFigures(byId("panel-figures", HTMLElement), run, page.mesh);
  showSettings(byId("panel-settings", HTMLElement), run);
  for (const refresh of refreshers) refresh();
}

function showSubject() {
  const { run, subject, mesh } = page;
  if (!run) return;
  const subjectLine = byId("subject", HTMLElement);
  subjectLine.textContent = subjectLine.title = page.label();
  byId("subject-back", HTMLElement).hidden = subject.kind === "decoded" || (subject.kind === "latent" && subject.by === "drop");
  meshSelect.value = String(mesh);
  byId("score", HTMLElement).textContent = subject.kind === "decoded" ? headline(run, mesh) : "";
  showFigures(byId("panel-figures", HTMLElement), run, mesh);
  iso.value = String(page.iso);
  showLevel();
  for (const refresh of refreshers) refresh();
  const saving = !page.source.live ? page.source.reason : subject.kind === "snapshot" ? "A snapshot\u2019s latent cannot be saved." : "";
  for (const id of ["save-latent", "save-mesh", "format"]) {
    const control = byId(id, HTMLElement);
    control.title = saving;
    control.toggleAttribute("disabled", !!saving);
  }
  iso.title = page.source.live ? "" : page.source.reason;
  iso.disabled = !page.source.live;
  const why = byId("surface-why", HTMLElement);
  why.textContent = saving;
  why.hidden = !saving;
  // The address keeps what is shown, and no token.
  history.replaceState(null, "", `${location.protocol === "file:" ? "" : location.pathname}#${encodeURIComponent(run.id)}/${run.meshes[mesh] ? mesh : 0}`);
}

const showLevel = () => { byId("iso-text", HTMLOutputElement).textContent = page.iso.toFixed(2); };

/** @param {import("./binary.js").Mesh} mesh */
function trianglesOf(mesh) {
  const shown = mesh.indices.length / 3;
  return shown < mesh.triangles ? `${counted(shown)} of ${counted(mesh.triangles)} triangles` : `${counted(shown)} triangles`;
}

function showData() {
  const { run } = page;
  if (!run) return;
  const sizes = panes.map((pane) => (pane.mesh ? trianglesOf(pane.mesh) : pane.message.textContent ? "no surface" : ""));
  const name = meshesOf(page).find(([index]) => index === page.mesh)?.[1] || "";
  byId("input-sub", HTMLElement).textContent = [name, sizes[0]].filter(Boolean).join(" \u00b7 ");
  byId("output-sub", HTMLElement).textContent = [run.representation, sizes[1]].filter(Boolean).join(" \u00b7 ");
  panes[0].canvas.setAttribute("aria-label", `The input mesh ${name}, ${sizes[0]}. Arrow keys turn both meshes.`);
  panes[1].canvas.setAttribute("aria-label", `The reconstructed mesh, ${sizes[1]}. Arrow keys turn both meshes.`);
  const shown = panes[1].mesh;
  byId("triangles", HTMLOutputElement).textContent = shown ? `${trianglesOf(shown)}, ${counted(shown.positions.length / 3)} vertices` : "no triangles";
  byId("distance-scale", HTMLElement).hidden = !page.distance;
  const far = shown && shown.distances;
  distance.disabled = !page.source.live && !far;
  distance.title = distance.disabled ? page.source.reason : "";
  byId("distance-text", HTMLElement).textContent = !far ? (shown && page.distance ? "no input to compare with" : "") : `median ${plain(median(far))}`;
  showLegend(byId("legend", HTMLElement), net, run.latent_shape);
  readPixel();
}

/** @param {Float32Array} values */
function median(values) {
  const sorted = values.slice().sort();
  return sorted[sorted.length >> 1] || 0;
}

/** Whether the page was opened on a folder without a run. */
let idle = false;
const remesh = latestOnly(() => page.remesh(), 60);
const editor = new Editor(page, net);
const refreshScrubber = startScrubber(page, curves);
const benchTabs = startTabs(byId("bench-tabs", HTMLElement), (panel) => {
  editor.setOpen(panel === "panel-edit");
  if (panel === "panel-edit" && net.shown !== "decoded") choose("shown", "decoded");
});
const refreshers = [startInterpolation(page), startSampling(page), startDropping(page, () => benchTabs.choose("panel-drop")), () => editor.refresh(), refreshScrubber];
startTabs(byId("run-tabs", HTMLElement), () => {});
startTheme((dark) => {
  stage.dark = dark;
  net.draw();
  stage.redraw();
});

page.onRun = () => {
  const { run } = page, known = run && page.known.get(run.id);
  if (run && known) curves.set(known.columns, run.steps);
  showRun();
  state();
};
page.onSubject = showSubject;
page.onData = showData;
net.onHover = readPixel;
net.onLook = (/** @type {number} */ view) => { stage.camera.lookFrom(view); stage.redraw(); };
const state = follow(page, curves, () => {
  // The first run of a folder that had none when the page was opened.
  if (idle && page.runs.length) { idle = false; void page.open(page.runs[0].id, false); }
  showRun();
  showState(page, true);
});

/** Chooses a radio as a click would. @param {string} name @param {string} value */
function choose(name, value) {
  const radio = radios(name).find((one) => one.value === value);
  if (radio && !radio.checked && !radio.disabled) radio.click();
}

for (const radio of radios("representation")) radio.onchange = () => {
  if (page.run && page.run.pair && page.run.representation !== radio.value) void page.open(page.run.pair, true);
};
for (const label of toggle.querySelectorAll("label")) label.onclick = () => { if (label.title) say(label.title); };
for (const radio of radios("shown")) radio.onchange = () => {
  net.shown = /** @type {import("./views.js").Shown} */ (radio.value);
  net.draw();
  showData();
};
for (const radio of radios("look")) radio.onchange = () => {
  net.look = /** @type {import("./pixels.js").Look} */ (radio.value);
  net.draw();
  showData();
};
runSelect.onchange = () => { say(""); void page.open(runSelect.value, false); };
meshSelect.onchange = () => {
  const place = Number(meshSelect.value), { run } = page;
  const one = run && page.dropped.find((mesh) => mesh.places.get(run.id)?.mesh === place), known = one && run && one.places.get(run.id);
  if (one && known) void page.show(subjectOf(page, one, known.token), place);
  else void page.show({ kind: "decoded" }, place);
};
byId("subject-back", HTMLButtonElement).onclick = () => void page.show({ kind: "decoded" }, page.run && page.run.meshes[page.mesh] ? page.mesh : 0);
iso.oninput = () => { page.iso = Number(iso.value); showLevel(); remesh(); };
distance.onchange = () => { page.distance = distance.checked; panes[1].farthest = distance.checked ? Number(farthest.value) : 0; remesh(); showData(); };
farthest.onchange = () => { panes[1].farthest = Number(farthest.value); stage.redraw(); };
byId("wireframe", HTMLInputElement).onchange = (event) => {
  for (const pane of panes) pane.wireframe = event.target instanceof HTMLInputElement && event.target.checked;
  stage.redraw();
};
byId("reset", HTMLButtonElement).onclick = () => { stage.camera.reset(); stage.redraw(); };
byId("save-latent", HTMLButtonElement).onclick = () => void page.save("hexz");
byId("save-mesh", HTMLButtonElement).onclick = () => void page.save(byId("format", HTMLSelectElement).value);
byId("keys", HTMLButtonElement).onclick = () => byId("help", HTMLDialogElement).showModal();
byId("notice-close", HTMLButtonElement).onclick = () => say("");
paintLegend(byId("distance-legend", HTMLCanvasElement), FAR);
addEventListener("keydown", (event) => {
  const at = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || !(at instanceof Element && at.closest("#net, .stage, #toggle"))) return;
  if (event.key.toLowerCase() === "b") choose("representation", "binary");
  else if (event.key.toLowerCase() === "c") choose("representation", "continuous");
});

async function begin() {
  page.runs = await page.source.runs();
  if (!page.runs.length) {
    idle = true;
    byId("state-text", HTMLElement).textContent = "No run yet";
    say("There is no run in this folder yet. One that starts appears here.");
    return;
  }
  const [id, mesh] = location.hash.slice(1).split("/"), wanted = page.runs.find((run) => run.id === decodeURIComponent(id || ""));
  const first = wanted || page.runs.find((run) => run.state === "training") || page.runs.find((run) => run.pair && run.representation === "continuous") || page.runs[0];
  const place = wanted && wanted.meshes[Number(mesh)] ? Number(mesh) : 0;
  await page.open(first.id, false, place);
}
begin().catch(fail);

// For tests, and for whoever is curious in the console.
Object.assign(globalThis, { hexcuda: { page, stage, net, panes, curves } });
