// Tests of the page in a browser:
//
//   node tools/page/test.mjs [--hexcuda target/release/hexcuda] [--browser /usr/bin/chromium] [--only WORD] [--data DIR]
//
// They train a pair of quick runs, a run of several meshes and an empty one (in DIR, where they are kept, or for this time
// alone), serve them, and open the page. playwright-core is looked for from the working folder.

import { pathToFileURL } from "node:url";
import { assert, at, copyRun, ended, facesOf, hexcuda, launch, makeRuns, option, removeRun, serve, start, tidy } from "./harness.mjs";

const WAIT = 60000, complaints = [];
makeRuns();
const server = await serve("runs", "--port", "0"), base = server.url, browser = await launch();
const PAIR = "pair~continuous", SEVERAL = "several";

async function open(address, context = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, ...context });
  page.on("console", (message) => { if (message.type() === "error") complaints.push(message.text()); });
  page.on("pageerror", (error) => complaints.push(error.message));
  await page.goto(address);
  await settled(page);
  return page;
}
const openRun = (id, context) => open(new URL(`#${encodeURIComponent(id)}/0`, base).href, context);

/** What a test expects to be refused is no complaint. */
const forgive = () => complaints.splice(0, complaints.length, ...complaints.filter((line) => !/Failed to load resource/.test(line)));

/** Waits until what was asked for is on the screen. */
async function settled(page) {
  await page.waitForFunction(() => {
    const { hexcuda } = globalThis;
    return hexcuda && hexcuda.net.decoded && (hexcuda.panes[1].mesh || document.getElementById("output-message").textContent) && hexcuda.panes[0].mesh;
  }, null, { timeout: WAIT });
  await page.waitForTimeout(150);
}

const says = (page, id, pattern) => page.waitForFunction(([id, source]) => new RegExp(source).test(document.getElementById(id).textContent), [id, pattern.source], { timeout: WAIT });

/** What is on the faces and in the right pane, as numbers that differ where they differ. */
const look = (page) => page.evaluate(() => {
  const sum = (values, step) => { let s = 0; for (let i = 0; i < values.length; i += step) s = (s * 31 + Math.round(1e4 * values[i])) % 2147483647; return s; };
  const { net, panes } = globalThis.hexcuda;
  const pixels = net.faces.map(({ canvas }) => sum(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data, 1)).join();
  const mesh = panes[1].mesh;
  return { pixels, mesh: mesh ? sum(mesh.positions, 7) : 0, triangles: document.getElementById("triangles").textContent };
});

async function changed(page, from, part, text) {
  for (let tried = 0; tried < WAIT / 200; tried++) {
    const now = await look(page);
    if (now[part] !== from[part]) return now;
    await page.waitForTimeout(200);
  }
  throw new Error(text);
}

const slide = (page, id, value) => page.locator(`#${id}`).evaluate((slider, to) => {
  slider.value = String(to);
  slider.dispatchEvent(new Event("input", { bubbles: true }));
}, value);

/** The box of the pixels that a pane draws, and that of the vertices under its camera's matrices. */
const boxes = (page, which) => page.evaluate((index) => {
  const { panes, stage } = globalThis.hexcuda, pane = panes[index], { canvas, gl } = pane, { width, height } = canvas;
  pane.setMark(null);
  pane.draw(stage.camera, false);
  const data = new Uint8Array(4 * width * height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  const seen = [Infinity, Infinity, -Infinity, -Infinity], told = [...seen];
  const grow = (box, x, y) => { box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y); box[2] = Math.max(box[2], x); box[3] = Math.max(box[3], y); };
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) if (data[4 * (y * width + x) + 3] > 127) grow(seen, x + 0.5, y + 0.5);
  const { view: m, projection: p } = stage.camera, v = pane.mesh.positions;
  for (let i = 0; i < v.length; i += 3) {
    const eye = [0, 1, 2].map((k) => m[k] * v[i] + m[4 + k] * v[i + 1] + m[8 + k] * v[i + 2] + m[12 + k]);
    grow(told, (width / 2) * (1 - (p[0] * eye[0]) / eye[2]), (height / 2) * (1 - (p[5] * eye[1]) / eye[2]));
  }
  return { seen, told };
}, which);

async function drag(page, selector, by, steps = 10) {
  const box = await page.locator(selector).boundingBox(), x = box.x + box.width / 2, y = box.y + box.height / 2;
  await page.mouse.move(x, y);
  await page.mouse.down();
  for (let i = 1; i <= steps; i++) await page.mouse.move(x + (by[0] * i) / steps, y + (by[1] * i) / steps);
  await page.waitForTimeout(120);
  await page.mouse.up();
  await page.waitForTimeout(150);
  return box;
}

async function paint(page, face = ".face-front") {
  const box = await page.locator(face).boundingBox();
  await page.mouse.move(box.x + 0.45 * box.width, box.y + 0.45 * box.height);
  await page.mouse.down();
  await page.mouse.move(box.x + 0.55 * box.width, box.y + 0.5 * box.height, { steps: 6 });
  await page.mouse.up();
}

/** A closed octahedron as an OBJ. */
const OCTAHEDRON = "v 1 0 0\nv -1 0 0\nv 0 1.4 0\nv 0 -1.4 0\nv 0 0 1\nv 0 0 -1\nf 1 3 5\nf 3 2 5\nf 2 4 5\nf 4 1 5\nf 3 1 6\nf 2 3 6\nf 4 2 6\nf 1 4 6\n";

const tests = {
  async "the toggle switches planes and mesh, and back"() {
    const page = await openRun(PAIR), before = await look(page);
    await page.locator("input[value=binary]").check();
    const binary = await changed(page, before, "mesh", "the mesh stayed");
    assert(binary.pixels !== before.pixels, "the planes stayed");
    assert(await page.evaluate(() => globalThis.hexcuda.net.decoded.channels) === 1, "binary planes have one channel");
    await page.keyboard.press("c");
    const again = await changed(page, binary, "mesh", "the mesh did not come back");
    assert(again.pixels === before.pixels && again.mesh === before.mesh, "what came back is not what was there");
    await page.close();
  },
  async "where there is no pair the toggle says so, and the figures are those of all meshes"() {
    const page = await openRun(SEVERAL);
    await page.locator("#toggle label").first().click({ force: true });
    await says(page, "notice-text", /no binary run of this mesh/);
    await page.locator("#tab-figures").click();
    assert(/Mean of 3 meshes/.test(await page.locator("#panel-figures").textContent()), "no mean over the meshes");
    await page.close();
  },
  async "a drag turns both meshes as the matrix says"() {
    const page = await openRun(PAIR, { reducedMotion: "reduce" });
    const yaw = () => page.evaluate(() => globalThis.hexcuda.stage.camera.yaw);
    const before = [await boxes(page, 0), await boxes(page, 1)], start = await yaw();
    const box = await drag(page, "#output-mesh", [120, 0]), turned = (await yaw()) - start;
    assert(Math.abs(turned - (4.5 * 120) / Math.round(box.height)) < 1e-6, `a drag of 120 pixels turned by ${turned}`);
    for (const which of [0, 1]) {
      const { seen, told } = await boxes(page, which);
      seen.forEach((edge, k) => assert(Math.abs(edge - told[k]) < 2.5, `pane ${which} draws to ${edge}, its matrices say ${told[k]}`));
      assert(seen.some((edge, k) => Math.abs(edge - before[which].seen[k]) > 4), `pane ${which} looks as before`);
    }
    await page.locator("#input-mesh").focus();
    await page.keyboard.press("ArrowLeft");
    assert(Math.abs((await yaw()) - start - turned + 0.12) < 1e-6, "the arrow key did not turn");
    await page.mouse.move(box.x + 20, box.y + 90);
    await page.mouse.wheel(0, -200);
    await page.waitForTimeout(150);
    assert(await page.evaluate(() => globalThis.hexcuda.stage.camera.zoom) > 1.2, "the wheel did not zoom");
    await page.close();
  },
  async "a drag costs less than 8 ms of script a frame"() {
    const page = await openRun(SEVERAL);
    await page.evaluate(() => { globalThis.hexcuda.stage.frames = 0; });
    await drag(page, "#output-mesh", [160, 40], 24);
    const { costs, triangles } = await page.evaluate(() => {
      const { stage, panes } = globalThis.hexcuda;
      return { costs: [...stage.costs.slice(0, Math.min(stage.frames, stage.costs.length))], triangles: panes.reduce((sum, pane) => sum + pane.mesh.indices.length / 3, 0) };
    });
    costs.sort((a, b) => a - b);
    const most = costs[Math.floor(0.95 * (costs.length - 1))];
    console.log(`   ${costs.length} frames of ${triangles} triangles: median ${costs[costs.length >> 1].toFixed(2)} ms, 95th percentile ${most.toFixed(2)} ms`);
    assert(costs.length > 10, "too few frames were drawn");
    assert(most < 8, `a frame cost ${most} ms of script`);
    await page.close();
  },
  async "the level slider extracts what the command line does"() {
    const page = await openRun(PAIR), before = await look(page), counts = [before.triangles];
    for (const iso of [0.3, 0.72]) {
      await slide(page, "iso", iso);
      counts.push((await changed(page, { triangles: counts[counts.length - 1] }, "triangles", "the count stayed")).triangles);
      hexcuda("extract", "runs/pair/continuous/decoded.safetensors", "--iso", String(iso), "--grid", "128", "-o", "level.ply");
      const shown = Number(counts[counts.length - 1].split(" ")[0].replace(/,/g, ""));
      assert(shown === facesOf("level.ply"), `at ${iso} the page has ${shown} triangles, the command line ${facesOf("level.ply")}`);
    }
    console.log(`   at 0.5, 0.3 and 0.72: ${counts.join("; ")}`);
    await slide(page, "iso", 0.5);
    assert((await changed(page, { triangles: counts[2] }, "triangles", "the count stayed")).triangles === before.triangles, "0.5 gives another count than before");
    await page.close();
  },
  async "an empty mesh says why"() {
    const page = await openRun("empty");
    await says(page, "output-message", /No surface at 0.5: highest occupancy 0\.\d+/);
    assert(await page.locator("#output-message").isVisible(), "the reason is hidden");
    assert(await page.locator("#triangles").textContent() === "no triangles", "a count stands beside an empty mesh");
    await slide(page, "iso", 0.02);
    await page.waitForFunction(() => globalThis.hexcuda.panes[1].mesh && !document.getElementById("output-message").textContent, null, { timeout: WAIT });
    await page.close();
  },
  async "hover and keys read a pixel, and mark it on both meshes"() {
    const page = await openRun(PAIR), box = await page.locator(".face-front").boundingBox();
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await page.waitForTimeout(100);
    const read = await page.locator("#readout").textContent();
    assert(/front column \d+, row \d+/i.test(read) && /along −z/.test(read), `the readout says ${read}`);
    const marks = await page.evaluate(() => globalThis.hexcuda.panes.map((pane) => pane.mark && pane.mark.point));
    assert(marks.every((point) => point && point[2] > 0.2), `the face's middle is marked at ${JSON.stringify(marks)}`);
    await page.locator("#net").focus();
    await page.keyboard.press("6");
    await page.keyboard.press("ArrowRight");
    assert(/right column/i.test(await page.locator("#readout").textContent()), "the keys did not choose a view");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => Math.abs(Math.sin(globalThis.hexcuda.stage.camera.yaw) - 1) < 0.02, null, { timeout: 5000 });
    await page.close();
  },
  async "wireframe and distances change the picture"() {
    const page = await openRun(PAIR);
    const shot = async () => (await page.locator("#output-mesh").screenshot()).toString("base64");
    const plain = await shot();
    await page.locator("#wireframe").check();
    await page.waitForTimeout(500);
    const wire = await shot();
    assert(wire !== plain, "the wireframe is not seen");
    await page.locator("#wireframe").uncheck();
    await page.locator("#distance").check();
    await page.waitForFunction(() => globalThis.hexcuda.panes[1].mesh?.distances && /median/.test(document.getElementById("distance-text").textContent), null, { timeout: WAIT });
    await page.waitForTimeout(300);
    assert(await shot() !== plain, "distances are not seen");
    await page.close();
  },
  async "a training appears and goes on without a reload"() {
    const page = await openRun(PAIR);
    await page.evaluate(() => { globalThis.mark = 1; });
    const training = start("train", "head2.obj", "--config", "small.toml", "--steps", "100000", "--quiet", "--out", "runs/live");
    try {
      await page.waitForFunction(() => [...document.getElementById("run").options].some((option) => option.value === "live"), null, { timeout: WAIT });
      await page.locator("#run").selectOption("live");
      await settled(page);
      const state = () => page.evaluate(() => ({ last: globalThis.hexcuda.curves.last(), text: document.getElementById("state-text").textContent, path: document.querySelector("#curves path")?.getAttribute("d").length || 0 }));
      const before = await state();
      assert(/^Training/.test(before.text), `the state is ${before.text}`);
      await page.waitForFunction((was) => globalThis.hexcuda.curves.last() > was.last && document.getElementById("state-text").textContent !== was.text
        && document.querySelector("#curves path").getAttribute("d").length > was.path, before, { timeout: WAIT });
      const seen = await look(page);
      await changed(page, seen, "pixels", "no newer snapshot came");
    } finally { await ended(training, "SIGINT"); }
    await says(page, "state-text", /Stopped|Trained/);
    // While it is looked at.
    removeRun("live");
    await page.waitForFunction(() => ![...document.getElementById("run").options].some((option) => option.value === "live"), null, { timeout: WAIT });
    await says(page, "notice-text", /deleted/);
    assert(await page.evaluate(() => globalThis.mark) === 1, "the page was loaded again");
    forgive();
    await page.close();
  },
  async "the scrubber shows snapshots"() {
    const page = await openRun(PAIR);
    const before = await look(page);
    await slide(page, "snapshot", 0);
    await changed(page, before, "pixels", "the planes stayed");
    const text = () => page.locator("#snapshot-text").textContent(), first = await text();
    assert(/^step \d+$/.test(first), `the first snapshot is called ${first}`);
    await page.locator("#snapshot").focus();
    await page.keyboard.press("ArrowRight");
    await page.waitForFunction((was) => document.getElementById("snapshot-text").textContent !== was, first, { timeout: WAIT });
    await page.keyboard.press("End");
    await page.waitForFunction(() => document.getElementById("snapshot-text").textContent.endsWith("end"), null, { timeout: WAIT });
    await settled(page);
    assert((await look(page)).mesh === before.mesh, "the end is not what was there");
    await page.close();
  },
  async "sliding between two meshes"() {
    const page = await openRun(SEVERAL), before = await look(page);
    await slide(page, "between-t", 0.5);
    await changed(page, before, "mesh", "the mesh stayed");
    assert(/50 % from .+ to /.test(await page.locator("#subject").textContent()), "the subject is not named");
    await page.locator("#subject-back").click();
    await page.waitForFunction((was) => globalThis.hexcuda.page.subject.kind === "decoded", null, { timeout: WAIT });
    await page.close();
  },
  async "drawing from a prior"() {
    const page = await openRun(SEVERAL);
    await page.locator("#tab-sample").click();
    const before = await look(page);
    await page.locator("#draw").click();
    const first = await changed(page, before, "mesh", "no sample came");
    await page.locator("#draw-next").click();
    await changed(page, first, "mesh", "the next sample is the same");
    assert(await page.locator("#index").inputValue() === "1", "the number did not go on");
    await page.close();
  },
  async "painting, undo and redo"() {
    const page = await openRun(PAIR);
    await page.locator("#tab-edit").click();
    const before = await look(page);
    await paint(page);
    const once = await changed(page, before, "mesh", "the stroke changed no mesh");
    assert(once.pixels !== before.pixels, "the stroke changed no plane");
    await page.waitForFunction(() => /encoded again in/.test(document.getElementById("edit-figure").textContent), null, { timeout: WAIT });
    console.log(`   ${await page.locator("#edit-figure").textContent()}`);
    await paint(page, ".face-left");
    const twice = await changed(page, once, "mesh", "the second stroke changed no mesh");
    await page.locator("#undo").click();
    assert((await changed(page, twice, "mesh", "undo changed nothing")).mesh === once.mesh, "undo does not give what was there");
    await page.keyboard.press("Control+z");
    assert((await changed(page, once, "mesh", "the second undo changed nothing")).pixels === before.pixels, "undo does not give the beginning");
    await page.keyboard.press("Control+Shift+z");
    assert((await changed(page, before, "mesh", "redo changed nothing")).mesh === once.mesh, "redo does not give what was there");
    await page.close();
  },
  async "saving a latent and a mesh"() {
    const page = await openRun(PAIR);
    for (const [button, ending] of [["#save-latent", "hexz"], ["#save-mesh", "ply"]]) {
      const [download] = await Promise.all([page.waitForEvent("download", { timeout: WAIT }), page.locator(button).click()]);
      assert(download.suggestedFilename().endsWith(`.${ending}`), `${button} saved ${download.suggestedFilename()}`);
      assert(await download.failure() === null, `${button}: ${await download.failure()}`);
    }
    await page.close();
  },
  async "dropping a mesh, and the same mesh in the pair"() {
    const page = await openRun(PAIR), before = await look(page);
    const data = await page.evaluateHandle((text) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([text], "octahedron.obj"));
      return transfer;
    }, OCTAHEDRON);
    await page.dispatchEvent("body", "dragenter", { dataTransfer: data });
    assert(await page.locator("#veil").isVisible(), "nothing says that a file may be dropped");
    await page.dispatchEvent("body", "drop", { dataTransfer: data });
    const mine = await changed(page, before, "mesh", "the dropped mesh did not come");
    await settled(page);
    assert(/octahedron/.test(await page.locator("#subject").textContent()), "the dropped mesh is not named");
    assert(await page.evaluate(() => globalThis.hexcuda.panes[0].mesh.indices.length) === 24, "the left pane does not show the dropped mesh");
    await page.locator("input[value=binary]").check();
    await changed(page, mine, "mesh", "the pair did not take the mesh");
    assert(/octahedron/.test(await page.locator("#subject").textContent()), "the toggle lost the dropped mesh");
    await page.locator("#tab-drop").click();
    await page.locator("#file").setInputFiles({ name: "broken.obj", mimeType: "text/plain", buffer: Buffer.from("v 1 2\n") });
    await page.waitForFunction(() => !document.getElementById("notice").hidden && !/Encoding/.test(document.getElementById("notice-text").textContent), null, { timeout: WAIT });
    forgive();
    await page.close();
  },
  async "two clients edit without each other"() {
    const run = PAIR, one = await openRun(run), two = await openRun(run), before = await look(two);
    await one.locator("#tab-edit").click();
    const start = await look(one);
    await paint(one);
    await changed(one, start, "mesh", "the stroke changed no mesh");
    const after = await look(two);
    assert(after.mesh === before.mesh && after.pixels === before.pixels, "the other client's head changed");
    await one.close();
    await two.close();
  },
  async "a checkpoint that was replaced under an edit is said"() {
    copyRun("several", "replaced");
    try {
      const page = await openRun("replaced");
      await page.locator("#tab-sample").click();
      const before = await look(page);
      await page.locator("#draw").click();
      await changed(page, before, "mesh", "no sample came");
      hexcuda("train", "--out", "runs/replaced", "--resume", "--steps", "61", "--quiet", "head1.obj", "head2.obj", "head3.obj");
      await page.locator("#tab-edit").click();
      await paint(page);
      await says(page, "notice-text", /changed meanwhile|was replaced/);
      forgive();
      await page.close();
    } finally { removeRun("replaced"); }
  },
  async "the page goes on when the server comes back"() {
    const first = await serve("runs/pair", "--port", "0"), port = new URL(first.url).port;
    const page = await open(first.url);
    await first.stop();
    await says(page, "state-text", /Reconnecting/);
    const again = await serve("runs/pair", "--port", port);
    try {
      await says(page, "state-text", /Trained/);
      const before = await look(page);
      await page.locator("input[name=representation]:not(:checked)").check();
      await changed(page, before, "mesh", "the toggle does nothing");
    } finally { await again.stop(); }
    complaints.splice(0, complaints.length, ...complaints.filter((line) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|Failed to load resource/.test(line)));
    await page.close();
  },
  async "on another address a token opens the page"() {
    const server = await serve("runs/pair", "--host", "0.0.0.0", "--port", "0"), address = new URL(server.url);
    address.hostname = "127.0.0.1";
    assert(/token=[0-9a-f]{32}/.test(address.search), `the address is ${server.url}`);
    try {
      assert((await fetch(new URL("/", address))).status === 401, "it opens without a token");
      const page = await open(address.href), before = await look(page);
      await page.locator("input[name=representation]:not(:checked)").check();
      await changed(page, before, "mesh", "the toggle does nothing");
      assert(!page.url().includes("token"), "the address still shows the token");
      await page.close();
    } finally { await server.stop(); }
  },
  async "every control has a name, and nothing is wider than the page"() {
    for (const [width, scheme] of [[1280, "light"], [1280, "dark"], [390, "light"], [390, "dark"]]) {
      const page = await openRun(SEVERAL, { viewport: { width, height: width < 500 ? 844 : 800 }, colorScheme: scheme });
      const wide = await page.evaluate(() => document.scrollingElement.scrollWidth);
      assert(wide <= width, `at ${width} the page is ${wide} wide`);
      const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, select, [tabindex]")].filter((element) =>
        !(element.getAttribute("aria-label") || (element.labels && [...element.labels].some((label) => label.textContent.trim())) || (element.tagName === "BUTTON" && element.textContent.trim()))).map((element) => element.id || element.outerHTML.slice(0, 80)));
      assert(!nameless.length, `without a name: ${nameless.join(", ")}`);
      await page.close();
    }
  },
  async "a report works from disk without a network"() {
    const context = await browser.newContext({ offline: true, viewport: { width: 1280, height: 800 } }), page = await context.newPage();
    page.on("console", (message) => { if (message.type() === "error") complaints.push(`report: ${message.text()}`); });
    page.on("pageerror", (error) => complaints.push(`report: ${error.message}`));
    await page.goto(pathToFileURL(at("report.html")).href);
    await settled(page);
    const before = await look(page), other = page.locator("input[name=representation]:not(:checked)");
    if (await other.isEnabled()) {
      await other.check();
      await changed(page, before, "mesh", "the toggle changed nothing");
    }
    await page.locator("#tab-edit").click();
    assert(/hexcuda serve/.test(await page.locator("#edit-why").textContent()), "nothing says why there is no brush");
    assert(await page.locator("#iso").isDisabled(), "the level slider can be moved");
    await context.close();
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  if (!name.includes(option("--only", ""))) continue;
  complaints.length = 0;
  const begun = Date.now();
  try {
    await test();
    assert(!complaints.length, `the console says ${complaints.join("; ")}`);
    console.log(`ok ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed++;
    console.log(`FAILED ${name}: ${error.message}${complaints.length ? ` (console: ${complaints.join("; ")})` : ""}`);
  }
  await Promise.all(browser.contexts().map((context) => context.close()));
}
await browser.close();
await server.stop();
tidy();
console.log(failed ? `${failed} failed` : "the page passes");
process.exit(failed ? 1 : 0);
