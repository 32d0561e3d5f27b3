// The curves of a run: parts of the loss, and below them the divergence or the bits where there are some; with a mark at the snapshot
// that is shown.

import { counted, duration, make, makeSvg, plain } from "./dom.js";

/** @typedef {import("./source.js").Columns} Columns */
/** @typedef {{ key: string, name: string, colour: number, dash: string }} Line */
/** @typedef {{ at: (value: number) => number, ticks: number[] }} Scale */

/** @type {Line[]} */
const LOSSES = [
  { key: "loss", name: "loss", colour: 1, dash: "" },
  { key: "reconstruction", name: "reconstruction", colour: 2, dash: "6 3" },
  { key: "sdf", name: "SDF", colour: 3, dash: "2 3" },
];
/** @type {Line[]} */
const RATES = [
  { key: "kl", name: "KL, nats", colour: 5, dash: "" },
  { key: "rate", name: "rate, bits", colour: 5, dash: "" },
];

/** @param {number} rough */
function roundGap(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) || 10);
}

/** @param {number} tick */
const shortTick = (tick) => (tick === 0 ? "0" : Math.abs(tick) < 1e-2 || Math.abs(tick) >= 1e4 ? tick.toExponential(1).replace(".0e", "e").replace("e+", "e").replaceAll("-", "\u2212") : String(Number(tick.toPrecision(2))));

/**
 * Logarithmic where all values are positive: losses fall by orders. A likelihood of a density can be negative.
 * @param {number[]} values @param {number} top @param {number} bottom
 * @returns {Scale}
 */
function scaleOf(values, top, bottom) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  const logarithmic = low > 0, to = (/** @type {number} */ v) => (logarithmic ? Math.log10(v) : v);
  low = to(low);
  high = to(high);
  const margin = Math.max(logarithmic ? 0.05 : 1e-6, 0.05 * (high - low));
  low -= margin;
  high += margin;
  const at = (/** @type {number} */ value) => bottom - ((to(value) - low) / (high - low)) * (bottom - top);
  /** @type {number[]} */
  let ticks = [];
  if (logarithmic) {
    const factors = high - low < 1.2 ? [1, 2, 5] : high - low < 2.5 ? [1, 3] : [1];
    for (let power = Math.floor(low); power <= high; power++)
      for (const factor of factors) if (power + Math.log10(factor) >= low && power + Math.log10(factor) <= high) ticks.push(factor * 10 ** power);
  } else {
    const gap = roundGap((high - low) / 4);
    for (let k = Math.ceil(low / gap); k * gap <= high; k++) ticks.push(k * gap);
  }
  const every = Math.ceil(ticks.length / Math.max(2, Math.floor((bottom - top) / 24)));
  return { at, ticks: ticks.filter((_, i) => i % every === 0) };
}

export class Curves {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Columns} */
    this.columns = {};
    /** Steps of the whole run, also those to come. */
    this.steps = 1;
    /** @type {number | null} */
    this.mark = null;
    /** @type {number[]} */
    this.stops = [];
    /** @type {number | null} */
    this.chosen = null;
    this.width = 0;
    this.height = 0;
    new ResizeObserver(() => {
      if (Math.abs(root.clientWidth - this.width) > 1 || Math.abs(root.clientHeight - this.height) > 1) this.draw();
    }).observe(root);
  }

  /** @param {Columns} columns @param {number} steps */
  set(columns, steps) {
    this.columns = columns;
    this.steps = steps;
    this.chosen = null;
    this.draw();
  }

  /** Adds rows that a running training has made. @param {Columns} more */
  append(more) {
    const last = this.last();
    const fresh = (more.step || []).findIndex((step) => step !== null && step > last);
    if (fresh < 0) return;
    for (const [key, values] of Object.entries(more)) this.columns[key] = (this.columns[key] || []).concat(values.slice(fresh));
    this.draw();
  }

  /** The last step that the curves have; 0: none. */
  last() {
    const steps = this.columns.step || [];
    return steps.length ? Number(steps[steps.length - 1]) : 0;
  }

  /** @param {number | null} step that is shown @param {number[]} stops steps of which there is a snapshot */
  setMark(step, stops) {
    if (step === this.mark && stops.join() === this.stops.join()) return;
    this.mark = step;
    this.stops = stops;
    this.draw();
  }

  /** @param {string} key */
  drawable(key) { return (this.columns[key] || []).some((value) => value !== null && value !== 0); }

  draw() {
    const width = this.root.clientWidth;
    this.width = width;
    this.height = this.root.clientHeight;
    if (!width) return;
    const steps = this.columns.step || [], lines = LOSSES.filter((line) => this.drawable(line.key));
    if (!steps.length || !lines.length) {
      this.root.replaceChildren(make("p", { class: "quiet" }, "No step has been taken yet."));
      return;
    }
    const rate = RATES.find((line) => this.drawable(line.key)), foot = Math.max(90, this.height - (width < 400 ? 42 : 26) - 18);
    const tall = rate ? Math.round(0.58 * foot) : foot;
    const left = 44, right = width - 8, first = 0, end = Math.max(this.steps, this.last(), 1);
    const x = (/** @type {number} */ step) => left + ((step - first) / (end - first)) * (right - left);
    const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${foot + 18}`, width, height: foot + 18, tabindex: 0, role: "img",
      "aria-label": `Losses of ${counted(this.last())} steps; the last is ${plain(Number(this.at("loss", steps.length - 1)))}. Arrow keys read the values.` });
    const gap = roundGap(end / (width < 280 ? 3 : 5));
    for (let step = 0; step <= end; step += gap) {
      svg.append(makeSvg("line", { class: "grid", x1: x(step), x2: x(step), y1: 8, y2: foot }));
      svg.append(makeSvg("text", { x: x(step), y: foot + 14, "text-anchor": x(step) > right - 14 ? "end" : "middle" }, counted(step)));
    }
    const scales = new Map(), losses = this.panel(svg, lines, x, 8, tall, left, right);
    for (const line of lines) scales.set(line.key, losses);
    if (rate) scales.set(rate.key, this.panel(svg, [rate], x, tall + 14, foot, left, right));
    for (const stop of this.stops) svg.append(makeSvg("line", { class: "stop", x1: x(stop), x2: x(stop), y1: foot - 3, y2: foot + 2 }));
    if (this.mark !== null) svg.append(makeSvg("line", { class: "mark", x1: x(this.mark), x2: x(this.mark), y1: 2, y2: foot }));
    const cursor = makeSvg("line", { class: "cursor", y1: 8, y2: foot, visibility: "hidden" });
    const shown = rate ? [...lines, rate] : lines;
    const dots = shown.map((line) => makeSvg("circle", { r: 3.5, class: `fill-${line.colour}`, visibility: "hidden" }));
    svg.append(cursor, ...dots);
    const { list, read } = this.legend(shown, (index) => {
      cursor.setAttribute("visibility", index === null ? "hidden" : "visible");
      const at = index === null ? 0 : x(Number(steps[index]));
      cursor.setAttribute("x1", String(at));
      cursor.setAttribute("x2", String(at));
      shown.forEach((line, i) => {
        const value = index === null ? null : this.at(line.key, index);
        const visible = value !== null && value !== 0;
        dots[i].setAttribute("visibility", visible ? "visible" : "hidden");
        if (!visible) return;
        dots[i].setAttribute("cx", String(at));
        dots[i].setAttribute("cy", String(scales.get(line.key).at(value)));
      });
    });
    svg.onpointermove = svg.onpointerdown = (event) => {
      const box = svg.getBoundingClientRect(), step = ((((event.clientX - box.left) / box.width) * width - left) / (right - left)) * end;
      let best = 0;
      steps.forEach((other, i) => { if (Math.abs(Number(other) - step) < Math.abs(Number(steps[best]) - step)) best = i; });
      read((this.chosen = best));
    };
    svg.onpointerleave = svg.onblur = () => read((this.chosen = null));
    svg.onkeydown = (event) => {
      const by = /** @type {Record<string, number>} */ ({ ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity })[event.key];
      if (by === undefined) return;
      event.preventDefault();
      const top = steps.length - 1;
      read((this.chosen = Math.max(0, Math.min(top, (this.chosen === null ? top : this.chosen) + by))));
    };
    // A reader on the curve keeps the focus while a training adds to it.
    const focused = this.root.contains(document.activeElement) && document.activeElement instanceof SVGElement;
    this.root.replaceChildren(list, svg);
    if (focused) svg.focus();
    read(this.chosen);
  }

  /** @param {string} key @param {number} index */
  at(key, index) {
    const value = (this.columns[key] || [])[index];
    return value === undefined ? null : value;
  }

  /**
   * @param {SVGElement} svg @param {Line[]} lines @param {(step: number) => number} x
   * @param {number} top @param {number} bottom @param {number} left @param {number} right
   */
  panel(svg, lines, x, top, bottom, left, right) {
    /** @type {number[]} */
    const values = lines.flatMap((line) => this.columns[line.key].filter((value) => value !== null && value !== 0 && Number.isFinite(value)).map(Number));
    const scale = scaleOf(values, top, bottom);
    for (const tick of scale.ticks) {
      const y = scale.at(tick);
      svg.append(makeSvg("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }));
      svg.append(makeSvg("text", { x: left - 6, y: y + 3.5, "text-anchor": "end" }, shortTick(tick)));
    }
    svg.append(makeSvg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
    for (const line of lines) {
      let text = "", pen = false;
      this.columns[line.key].forEach((value, i) => {
        if (value === null || value === 0 || !Number.isFinite(value)) { pen = false; return; }
        text += `${pen ? "L" : "M"}${x(Number(this.columns.step[i])).toFixed(1)} ${scale.at(value).toFixed(1)}`;
        pen = true;
      });
      svg.append(makeSvg("path", { d: text, class: `line-${line.colour}`, "stroke-dasharray": line.dash }));
    }
    return scale;
  }

  /** @param {Line[]} lines @param {(index: number | null) => void} move */
  legend(lines, move) {
    const list = make("ul", { class: "legend" });
    const outputs = lines.map((line) => {
      const sample = makeSvg("svg", { viewBox: "0 0 20 8", width: 20, height: 8, "aria-hidden": "true" });
      sample.append(makeSvg("line", { x1: 0, x2: 20, y1: 4, y2: 4, class: `line-${line.colour}`, "stroke-dasharray": line.dash }));
      const output = make("output");
      list.append(make("li", {}, sample, line.name, output));
      return output;
    });
    const when = make("output");
    list.append(make("li", {}, "step", when));
    const read = (/** @type {number | null} */ index) => {
      const at = index === null ? (this.columns.step || []).length - 1 : index, seconds = this.at("seconds", at);
      lines.forEach((line, i) => { outputs[i].textContent = plain(this.at(line.key, at)); });
      when.textContent = `${counted(Number(this.at("step", at)))}${seconds === null ? "" : `, ${duration(seconds)}`}`;
      move(index);
    };
    return { list, read };
  }
}
