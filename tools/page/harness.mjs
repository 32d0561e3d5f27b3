// What the tests of the page and its pictures need: runs, a server over them, a browser.
//
// playwright-core is looked for from the working folder.

import { spawn, spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const words = process.argv.slice(2);

/** @param {string} name @param {string} [otherwise] */
export const option = (name, otherwise) => (words.includes(name) ? words[words.indexOf(name) + 1] : otherwise);
export const flag = (name) => words.includes(name);

/** @param {boolean} holds @param {string} text */
export function assert(holds, text) { if (!holds) throw new Error(text); }

const program = path.resolve(option("--hexcuda", "target/release/hexcuda"));
const kept = option("--data");
/** The folder of the meshes and of the runs, `runs` in it. */
export const data = kept ? path.resolve(kept) : mkdtempSync(path.join(tmpdir(), "hexcuda-page-"));
export const at = (...parts) => path.join(data, ...parts);

/** Runs the program to its end; what it printed. */
export function hexcuda(...parts) {
  const done = spawnSync(program, parts, { cwd: data, encoding: "utf8" });
  if (done.error) throw done.error;
  assert(done.status === 0, `hexcuda ${parts.join(" ")}: ${done.stderr}`);
  return done.stdout;
}

/** Starts the program. */
export const start = (...parts) => spawn(program, parts, { cwd: data, stdio: ["ignore", "pipe", "pipe"] });

// The grid is that of the preset standard, so that meshes are as large as there.
const SMALL = (grid) => `preset = "quick"
[architecture]
planes = 64
patch = 16
latent_channels = 32
stem = 8
widths = [16, 32]
encoder_blocks = [0, 1]
decoder_blocks = [1, 1]
[training]
schedule = "constant"
sdf_points = 256
[extraction]
grid = ${grid}
[metrics]
samples = 4000
iou_grid = 32
`;

/**
 * Trains what is not there yet: `pair`, `several` (three meshes, a prior and a second stage, the grid of the preset
 * standard), `empty` (a network of random weights that has hardly begun, whose occupancy stays below 0.5), and the meshes and settings for more.
 */
export function makeRuns() {
  mkdirSync(data, { recursive: true });
  writeFileSync(at("small.toml"), SMALL(64));
  writeFileSync(at("fine.toml"), SMALL(256));
  const heads = [1, 2, 3].map((seed) => `head${seed}.obj`);
  heads.forEach((head, k) => existsSync(at(head)) || hexcuda("head", "--seed", String(k + 1), "-o", head));
  hexcuda("demo", "--no-serve", "--quiet", "--out", "runs/pair");
  if (!existsSync(at("runs/several/report.html"))) {
    hexcuda("train", ...heads, "--config", "fine.toml", "--latent", "gaussian", "--steps", "60", "--quiet", "--out", "runs/several");
    hexcuda("prior", ...heads, "--run", "runs/several", "--steps", "20");
  }
  if (!existsSync(at("runs/empty/report.html")))
    hexcuda("train", "head3.obj", "--config", "small.toml", "--representation", "binary", "--init", "random", "--steps", "10", "--quiet", "--out", "runs/empty");
  if (!existsSync(at("report.html"))) hexcuda("report", "runs/pair", "-o", "report.html");
}

/** A server over a folder; resolves once it has said where it is. */
export function serve(folder, ...parts) {
  const child = start("serve", folder, ...parts);
  let said = "";
  return new Promise((done, fail) => {
    const read = (piece) => {
      said += piece;
      const found = said.match(/http:\/\/\S+/);
      if (found) done({ child, url: found[0], stop: () => ended(child, "SIGINT") });
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("exit", (code) => fail(new Error(`hexcuda serve ended with ${code}: ${said}`)));
  });
}

/** @param {import("node:child_process").ChildProcess} child @param {NodeJS.Signals} signal */
export function ended(child, signal) {
  if (child.exitCode !== null) return Promise.resolve();
  return new Promise((done) => { child.on("exit", done); child.kill(signal); });
}

/** Triangles that a PLY file has. */
export const facesOf = (file) => Number(readFileSync(at(file)).subarray(0, 1000).toString("latin1").match(/element face (\d+)/)[1]);

/** A copy of a run under another name. */
export const copyRun = (from, to) => cpSync(at("runs", from), at("runs", to), { recursive: true, preserveTimestamps: true });
export const removeRun = (name) => rmSync(at("runs", name), { recursive: true, force: true });

/** Removes what was made, unless it was asked for by --data. */
export function tidy() { if (!kept) rmSync(data, { recursive: true, force: true }); }

/** A browser that draws WebGL 2 without a card. */
export function launch() {
  const { chromium } = createRequire(path.join(process.cwd(), "x.js"))("playwright-core");
  return chromium.launch({ executablePath: option("--browser", "/usr/bin/chromium"),
    args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"] });
}
