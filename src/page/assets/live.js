// Follows the server's events: runs that appear, steps of a training, snapshots; and moves the scrubber over them.

import { byId, counted, latestOnly } from "./dom.js";
import { showState } from "./page.js";
import { say } from "./tabs.js";

/** @typedef {import("./page.js").Page} Page */
/** @typedef {import("./curves.js").Curves} Curves */

/** Milliseconds between two snapshots that play. */
const BEAT = 450;
/** How much longer than it took to show a snapshot of a training the next one waits: looking on costs it a twentieth at most. */
const REST = 20;

/**
 * @param {Page} page @param {Curves} curves
 * @returns {() => void} draws the scrubber anew
 */
export function startScrubber(page, curves) {
  const slider = byId("snapshot", HTMLInputElement), text = byId("snapshot-text", HTMLOutputElement), play = byId("play", HTMLButtonElement);
  let playing = 0;
  /** Steps that can be shown; the last one is the run as it is. */
  const stops = () => {
    const { run } = page;
    if (!run) return [];
    const all = page.mesh === 0 ? run.snapshots : [], end = run.state === "training" && all.length ? all[all.length - 1] : run.step;
    return [...all.filter((step) => step < end), end];
  };
  const placeNow = () => {
    const all = stops(), { subject } = page, place = subject.kind === "snapshot" ? all.indexOf(subject.step) : -1;
    return place < 0 ? all.length - 1 : place;
  };
  const refresh = () => {
    const { run, subject } = page;
    if (!run) return;
    const all = stops(), step = all[placeNow()], last = subject.kind !== "snapshot" || step === all[all.length - 1];
    // As long as the axis of the curves above, so that the thumb stands under its step.
    slider.max = String(Math.max(run.steps, run.step));
    slider.value = String(step);
    slider.disabled = play.disabled = all.length < 2;
    slider.title = all.length > 1 ? "" : page.mesh === 0 ? "This run kept no snapshots." : "Snapshots are of the first mesh.";
    text.textContent = `step ${counted(step)}${!last ? "" : run.state === "training" ? ", live" : ", end"}`;
    slider.setAttribute("aria-valuetext", text.textContent);
    curves.setMark(last ? null : step, all.length > 1 ? all : []);
  };
  const go = latestOnly(async (/** @type {number} */ place) => {
    const all = stops();
    await page.show(place >= all.length - 1 ? { kind: "decoded" } : { kind: "snapshot", step: all[Math.max(0, place)] });
  });
  const stop = () => { playing = 0; play.setAttribute("aria-pressed", "false"); play.setAttribute("aria-label", "Play the snapshots"); };
  slider.oninput = () => {
    stop();
    const all = stops(), off = (/** @type {number} */ step) => Math.abs(step - Number(slider.value));
    const place = all.reduce((best, step, i) => (off(step) <= off(all[best]) ? i : best), 0);
    slider.value = String(all[place]);
    go(place);
  };
  slider.onkeydown = (event) => {
    const end = stops().length - 1, now = placeNow();
    const place = /** @type {Record<string, number>} */ ({ ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, Home: 0, End: end })[event.key];
    if (place === undefined) return;
    event.preventDefault();
    stop();
    go(Math.max(0, Math.min(end, place)));
  };
  play.onclick = async () => {
    if (playing) return stop();
    const mine = (playing = Date.now()), run = page.run, end = stops().length - 1;
    play.setAttribute("aria-pressed", "true");
    play.setAttribute("aria-label", "Stop playing");
    for (let place = placeNow() >= end ? 0 : placeNow(); place <= end && playing === mine && page.run && run && (page.run === run || page.run.id === run.pair); place++) {
      const begun = performance.now(), all = stops();
      await page.show(place >= all.length - 1 ? { kind: "decoded" } : { kind: "snapshot", step: all[place] });
      await new Promise((done) => setTimeout(done, Math.max(0, BEAT - (performance.now() - begun))));
    }
    if (playing === mine) stop();
  };
  return refresh;
}

/**
 * @param {Page} page @param {Curves} curves @param {() => void} changed draws what depends on the run's details
 */
export function follow(page, curves, changed) {
  let connected = true;
  const draw = () => showState(page, connected);

  const curve = latestOnly(async () => {
    const { run } = page;
    if (!run) return;
    try {
      const rows = await page.source.metrics(run.id, curves.last());
      if (page.run === run) curves.append(rows);
      const known = page.known.get(run.id);
      if (known) known.columns = curves.columns;
    } catch { /* the next step asks again */ }
    await new Promise((done) => setTimeout(done, 700));
  });

  const again = latestOnly(async (/** @type {string} */ id) => {
    page.store.forget(id);
    page.known.delete(id);
    try {
      if (page.run && page.run.id === id) {
        const { run, columns } = await page.details(id);
        if (!page.run || page.run.id !== id) return;
        page.run = run;
        curves.set(columns, run.steps);
        changed();
        await page.show(page.subject);
      }
    } catch { /* the state's line says what is known */ }
    draw();
  });

  // Who looks at the newest state goes on to the next one; who looks back stays.
  const newest = latestOnly(async () => {
    if (page.subject.kind !== "decoded" || page.mesh !== 0) return page.onSubject();
    const begun = performance.now();
    await page.show(page.subject);
    await new Promise((done) => setTimeout(done, REST * (performance.now() - begun)));
  });

  page.source.listen({
    run: (run) => {
      const place = page.runs.findIndex((other) => other.id === run.id);
      if (place < 0) page.runs.push(run);
      else page.runs[place] = run;
      const known = page.known.get(run.id), state = known && known.run.state;
      if (known) Object.assign(known.run, run);
      if (state && state !== run.state) again(run.id);
      changed();
      draw();
    },
    step: ({ id, step, steps }) => {
      const known = page.known.get(id);
      if (known) Object.assign(known.run, { step, steps });
      if (page.run && page.run.id === id) { curve(); draw(); }
    },
    snapshot: ({ id, step }) => {
      const known = page.known.get(id);
      if (!known) return;
      if (!known.run.snapshots.includes(step)) known.run.snapshots.push(step);
      if (page.run === known.run) newest();
    },
    gone: ({ id }) => {
      page.runs = page.runs.filter((run) => run.id !== id);
      page.known.delete(id);
      page.store.forget(id);
      if (page.run && page.run.id === id) say("This run has been deleted. What was loaded of it stays until you leave it.");
      changed();
    },
    connected: (now) => {
      const back = now && !connected;
      connected = now;
      draw();
      if (!back) return;
      // What happened meanwhile was not heard.
      page.source.runs().then((runs) => { page.runs = runs; changed(); }, () => {});
      if (page.run) again(page.run.id);
    },
  });
  return draw;
}
