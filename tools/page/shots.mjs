// Pictures of the page for the documentation, from a server that runs already:
//
//   node tools/page/shots.mjs http://127.0.0.1:8080/ docs/images [--browser /usr/bin/chromium]
//
// Takes the first pair of runs, at 1280 and 390 pixels, light and dark: page-WIDTH-LOOK.png.

import { createRequire } from "node:module";
import path from "node:path";

const [base, folder] = process.argv.slice(2), at = process.argv.indexOf("--browser");
if (!folder) {
  console.error("usage: node shots.mjs URL FOLDER [--browser PATH]");
  process.exit(2);
}
const { chromium } = createRequire(path.join(process.cwd(), "x.js"))("playwright-core");
const browser = await chromium.launch({ executablePath: at < 0 ? "/usr/bin/chromium" : process.argv[at + 1],
  args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"] });
const runs = await (await fetch(new URL("api/runs", base))).json();
const pair = runs.find((run) => run.pair && run.representation === "continuous") || runs[0];
for (const [width, height, scheme, kind] of [[1280, 800, "light", "continuous"], [1280, 800, "dark", "binary"], [390, 844, "light", "binary"], [390, 844, "dark", "continuous"]]) {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme: scheme, deviceScaleFactor: width < 500 ? 2 : 1 });
  const id = kind === pair.representation || !pair.pair ? pair.id : pair.pair;
  await page.goto(new URL(`#${encodeURIComponent(id)}/0`, base).href);
  await page.waitForFunction(() => globalThis.hexcuda?.net.decoded && globalThis.hexcuda.panes[0].mesh
    && (globalThis.hexcuda.panes[1].mesh || document.getElementById("output-message").textContent), null, { timeout: 60000 });
  if (width > 500) {
    const face = await page.locator(".face-front").boundingBox();
    await page.mouse.move(face.x + 0.44 * face.width, face.y + 0.52 * face.height);
  }
  await page.waitForTimeout(800);
  await page.screenshot({ path: path.join(folder, `page-${width}-${scheme}.png`) });
  await page.close();
}
await browser.close();
