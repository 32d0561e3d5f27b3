// The loss curve: losses over steps, logarithmic where all are positive; the KL divergence and the gradient norm in panels of
// their own.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const LINES = [
    { key: "loss", name: "total loss", colour: "var(--series-1)", dash: "" },
    { key: "reconstruction", name: "reconstruction", colour: "var(--series-2)", dash: "7 3" },
    { key: "sdf", name: "SDF", colour: "var(--series-3)", dash: "2 3" },
  ];
  const KL = { key: "kl", name: "KL (nats)", colour: "var(--series-5)", dash: "" };
  const NORM = { key: "gradient_norm", name: "gradient norm", colour: "var(--series-4)", dash: "" };
  const curve = report.curve, parent = document.getElementById("curve");
  const make = (tag, attributes, text) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const plain = (value) => value === null || value === undefined ? "n/a" : value === 0 ? "0"
    : Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5 ? value.toExponential(2) : value.toPrecision(3);
  // A likelihood of a density can be negative.
  const negative = LINES.some((line) => curve[line.key].some((value) => value < 0));
  const drawable = (key) => curve[key].some((value) => value > 0 || value < 0);
  if (!curve.step.length || ![...LINES, NORM].some((line) => drawable(line.key))) {
    parent.className = "empty";
    parent.textContent = "This run has no loss curve.";
    return;
  }
  const toggle = document.getElementById("show-norm");
  document.getElementById("curve-controls").hidden = false;
  const first = curve.step[0], last = Math.max(curve.step[curve.step.length - 1], first + 1);
  let chosen = null;

  function logScale(keys, top, bottom) {
    const values = keys.flatMap((key) => curve[key].filter((value) => value > 0));
    if (!values.length) values.push(1);
    let low = Math.log10(values.reduce((a, b) => Math.min(a, b))), high = Math.log10(values.reduce((a, b) => Math.max(a, b)));
    const margin = Math.max(0.05, 0.04 * (high - low));
    low -= margin;
    high += margin;
    const factors = high - low < 1.2 ? [1, 2, 3, 5] : high - low < 3 ? [1, 3] : [1];
    const ticks = [];
    for (let power = Math.floor(low); power <= high; power++)
      for (const factor of factors) {
        const place = power + Math.log10(factor);
        if (place >= low && place <= high) ticks.push([factor, power]);
      }
    const every = Math.ceil(ticks.length / 9);
    return {
      at: (value) => bottom - ((Math.log10(value) - low) / (high - low)) * (bottom - top),
      ticks: ticks.filter((_, index) => index % every === 0).map(([factor, power]) => factor * 10 ** power),
    };
  }

  const roundGap = (rough) => {
    const power = 10 ** Math.floor(Math.log10(rough));
    return power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  };

  function linearScale(keys, top, bottom) {
    const values = keys.flatMap((key) => curve[key].filter((value) => value !== null));
    let low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
    const margin = Math.max(1e-6, 0.04 * (high - low));
    low -= margin;
    high += margin;
    const gap = roundGap((high - low) / 8), ticks = [];
    for (let k = Math.ceil(low / gap); k * gap <= high; k++) ticks.push(k * gap);
    return { at: (value) => bottom - ((value - low) / (high - low)) * (bottom - top), ticks };
  }

  function stepTicks(room) {
    const gap = Math.max(1, roundGap((last - first) / room));
    const ticks = [];
    for (let step = Math.ceil(first / gap) * gap; step <= last; step += gap) ticks.push(step);
    return ticks;
  }

  // Whether a line has a point for a value.
  const shows = (key, value) => negative && key !== NORM.key ? value !== null : value > 0;

  // A path with gaps where a value is missing or has no logarithm.
  function path(key, x, y) {
    let text = "", pen = false;
    curve[key].forEach((value, index) => {
      if (!shows(key, value)) { pen = false; return; }
      text += `${pen ? "L" : "M"}${x(curve.step[index]).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = true;
    });
    return text;
  }

  function panel(svg, lines, x, box, title) {
    const keys = lines.map((line) => line.key), linear = negative && lines[0] !== NORM;
    const scale = (linear ? linearScale : logScale)(keys, box.top, box.bottom);
    for (const tick of scale.ticks) {
      const y = scale.at(tick);
      svg.append(make("line", { class: "grid", x1: box.left, x2: box.right, y1: y, y2: y }));
      svg.append(make("text", { x: box.left - 8, y: y + 4, "text-anchor": "end" }, plainTick(tick)));
    }
    svg.append(make("text", { x: 0, y: box.top - 10 }, title));
    for (const line of lines)
      svg.append(make("path", { d: path(line.key, x, scale.at), fill: "none", stroke: line.colour, "stroke-width": 1.8, "stroke-dasharray": line.dash, "stroke-linejoin": "round" }));
    return scale;
  }
  const plainTick = (tick) => tick === 0 ? "0" : Math.abs(tick) < 1e-3 || Math.abs(tick) >= 1e5 ? tick.toExponential(1).replace(".0e", "e")
    : String(Number(tick.toPrecision(2)));

  function legend(lines) {
    const list = document.createElement("ul");
    list.className = "legend";
    const outputs = new Map();
    const item = (key, name, sample) => {
      const entry = document.createElement("li"), output = document.createElement("output");
      if (sample) entry.append(sample);
      entry.append(name, output);
      list.append(entry);
      outputs.set(key, output);
    };
    for (const line of lines) {
      const sample = make("svg", { viewBox: "0 0 28 10", "aria-hidden": "true" });
      sample.append(make("line", { x1: 0, x2: 28, y1: 5, y2: 5, stroke: line.colour, "stroke-width": 2.5, "stroke-dasharray": line.dash }));
      item(line.key, line.name, sample);
    }
    item("step", "step");
    item("seconds", "time");
    return { list, outputs };
  }

  function draw() {
    const width = Math.max(300, parent.clientWidth - 24), tall = width < 560 ? 230 : 320;
    const panels = [];
    if (drawable(KL.key)) panels.push([KL, "KL divergence of a mesh (nats, logarithmic)"]);
    if (toggle.checked) panels.push([NORM, "gradient norm (logarithmic)"]);
    const extra = 150 * panels.length;
    const box = { left: 62, right: width - 12, top: 26, bottom: tall };
    const shown = LINES.filter((line) => drawable(line.key));
    const lines = [...shown, ...panels.map(([line]) => line)];
    const x = (step) => box.left + ((step - first) / (last - first)) * (box.right - box.left);
    const height = tall + extra + 44;
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "img", "aria-label": `Loss over steps ${first} to ${last}. Arrow keys read the values.` });
    const foot = tall + extra;
    for (const step of stepTicks(width < 560 ? 4 : 8)) {
      svg.append(make("line", { class: "grid", x1: x(step), x2: x(step), y1: box.top, y2: foot }));
      svg.append(make("text", { x: x(step), y: foot + 18, "text-anchor": "middle" }, step.toLocaleString("en")));
    }
    svg.append(make("text", { x: (box.left + box.right) / 2, y: foot + 38, "text-anchor": "middle" }, "step"));
    svg.append(make("line", { class: "axis", x1: box.left, x2: box.right, y1: foot, y2: foot }));
    const scales = new Map(), losses = panel(svg, shown, x, box, negative ? "loss (nats)" : "loss (no unit, logarithmic)");
    for (const line of shown) scales.set(line.key, losses);
    panels.forEach(([line, title], index) => {
      const bottom = tall + 150 * (index + 1);
      scales.set(line.key, panel(svg, [line], x, { ...box, top: bottom - 114, bottom }, title));
    });
    const cursor = make("line", { class: "cursor", y1: box.top, y2: foot, visibility: "hidden" });
    const dots = lines.map((line) => make("circle", { r: 4, fill: line.colour, visibility: "hidden" }));
    svg.append(cursor, ...dots);
    const { list, outputs } = legend(lines);
    const read = () => {
      const index = chosen === null ? curve.step.length - 1 : chosen, at = x(curve.step[index]);
      cursor.setAttribute("visibility", chosen === null ? "hidden" : "visible");
      cursor.setAttribute("x1", at);
      cursor.setAttribute("x2", at);
      lines.forEach((line, i) => {
        const value = curve[line.key][index];
        outputs.get(line.key).textContent = plain(value);
        dots[i].setAttribute("visibility", chosen !== null && shows(line.key, value) ? "visible" : "hidden");
        dots[i].setAttribute("cx", at);
        if (shows(line.key, value)) dots[i].setAttribute("cy", scales.get(line.key).at(value));
      });
      outputs.get("step").textContent = curve.step[index].toLocaleString("en");
      outputs.get("seconds").textContent = `${plain(curve.seconds[index])} s`;
    };
    svg.onpointermove = svg.onpointerdown = (event) => {
      const bounds = svg.getBoundingClientRect();
      const place = ((event.clientX - bounds.left) / bounds.width) * width;
      const step = first + ((place - box.left) / (box.right - box.left)) * (last - first);
      chosen = 0;
      curve.step.forEach((other, index) => { if (Math.abs(other - step) < Math.abs(curve.step[chosen] - step)) chosen = index; });
      read();
    };
    svg.onpointerleave = svg.onblur = () => { chosen = null; read(); };
    svg.onkeydown = (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      const end = curve.step.length - 1;
      chosen = Math.max(0, Math.min(end, (chosen === null ? end : chosen) + by));
      read();
    };
    read();
    parent.replaceChildren(list, svg);
  }
  toggle.onchange = draw;
  let drawn = 0;
  new ResizeObserver(() => { if (parent.clientWidth !== drawn) { drawn = parent.clientWidth; draw(); } }).observe(parent);
})();
