// Pictures of the page for the documentation: node tools/page/shots.mjs docs/images [--hexcuda PATH] [--browser PATH] [--data DIR]
//
// Of the pair, at 1280 and 390 pixels, light and dark: page-WIDTH-LOOK.png.

import path from "node:path";
import { launch, makeRuns, serve, tidy } from "./harness.mjs";

const folder = path.resolve(process.argv[2] || "docs/images");
makeRuns();
const server = await serve("runs", "--port", "0"), browser = await launch();
for (const [width, height, scheme, kind] of [[1280, 800, "light", "continuous"], [1280, 800, "dark", "binary"], [390, 844, "light", "binary"], [390, 844, "dark", "continuous"]]) {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme: scheme, deviceScaleFactor: width < 500 ? 2 : 1 });
  await page.goto(new URL(`#pair~${kind}/0`, server.url).href);
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
await server.stop();
tidy();
