// The plots of a diagnosis: lines and points over linear or logarithmic axes, and a heat map, drawn from the data of the page.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const data = JSON.parse(document.getElementById("data").textContent);
  const COLOURS = [1, 2, 3, 4, 5].map((k) => `var(--series-${k})`), DASHES = ["", "7 4", "2 3"];
  const style = (k) => ({ colour: COLOURS[k % COLOURS.length], dash: DASHES[Math.floor(k / COLOURS.length) % DASHES.length] });

  function make(name, attributes, ...children) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) if (value !== undefined && value !== "") node.setAttribute(key, value);
    node.append(...children);
    return node;
  }
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
  const plain = (x) => x === 0 ? "0" : Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5 ? x.toExponential(1).replace(".0e", "e") : String(Number(x.toPrecision(3)));

  function roundGap(least) {
    const power = 10 ** Math.floor(Math.log10(least));
    return power * [1, 2, 5, 10].find((factor) => factor * power >= least);
  }

  // Places values along a line from `from` to `to`.
  function axis(values, log, from, to, room) {
    const usable = values.filter((value) => known(value) && (!log || value > 0));
    if (!usable.length) return null;
    let low = usable.reduce((a, b) => Math.min(a, b)), high = usable.reduce((a, b) => Math.max(a, b));
    const ticks = [];
    if (log) {
      low = Math.log10(low); high = Math.log10(high);
      if (high - low < 1) { const middle = (low + high) / 2; low = middle - 0.5; high = middle + 0.5; }
      const gap = Math.max(1, Math.ceil((high - low) / room));
      for (let k = Math.ceil(low); k <= high; k += gap) ticks.push(10 ** k);
    } else {
      if (high - low < 1e-9) { low -= 0.5; high += 0.5; }
      const gap = roundGap((high - low) / room);
      for (let k = Math.ceil(low / gap); k * gap <= high + 1e-12; k++) ticks.push(k * gap);
    }
    const margin = 0.03 * (high - low), start = low - margin, span = high - low + 2 * margin;
    const at = (value) => from + (((log ? Math.log10(value) : value) - start) / span) * (to - from);
    return { at, ticks, shows: (value) => known(value) && (!log || value > 0) };
  }

  function legend(series) {
    const list = document.createElement("ul");
    list.className = "legend";
    for (const one of series.filter((one) => one.name)) {
      const entry = document.createElement("li"), sample = make("svg", { viewBox: "0 0 28 10", "aria-hidden": "true" });
      if (one.line) sample.append(make("line", { x1: 0, x2: 28, y1: 5, y2: 5, stroke: one.colour, "stroke-width": 2.5, "stroke-dasharray": one.dash }));
      else sample.append(make("circle", { cx: 14, cy: 5, r: 4, fill: one.colour }));
      entry.append(sample, one.name);
      list.append(entry);
    }
    return list;
  }

  // series: [{ name, line, points: [[x, y]], colour, dash }]
  function plot(id, title, { x, y, series }) {
    const parent = document.getElementById(id), heading = document.createElement("h3");
    heading.textContent = title;
    const width = Math.max(280, parent.clientWidth - 24), height = 280, box = { left: 58, right: width - 10, top: 8, bottom: height - 40 };
    const points = series.flatMap((one) => one.points);
    const across = axis(points.map((p) => p[0]), x.log, box.left, box.right, width < 420 ? 4 : 6);
    const up = axis(points.map((p) => p[1]), y.log, box.bottom, box.top, 6);
    if (!across || !up) {
      const missing = document.createElement("p");
      missing.className = "missing";
      missing.textContent = "Nothing to show here.";
      return parent.replaceChildren(heading, missing);
    }
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${y.title} over ${x.title}` });
    for (const tick of up.ticks) {
      const place = up.at(tick);
      svg.append(make("line", { class: "grid", x1: box.left, x2: box.right, y1: place, y2: place }), make("text", { x: box.left - 6, y: place + 4, "text-anchor": "end" }, plain(tick)));
    }
    for (const tick of across.ticks) svg.append(make("text", { x: across.at(tick), y: box.bottom + 18, "text-anchor": "middle" }, plain(tick)));
    svg.append(make("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }), make("text", { x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, x.title));
    for (const one of series) {
      const placed = one.points.filter((p) => across.shows(p[0]) && up.shows(p[1])).map((p) => [across.at(p[0]), up.at(p[1])]);
      if (one.line) {
        const path = placed.map((p, k) => `${k ? "L" : "M"}${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join("");
        svg.append(make("path", { d: path, fill: "none", stroke: one.colour, "stroke-width": 1.8, "stroke-dasharray": one.dash, "stroke-linejoin": "round" }, make("title", {}, one.name ?? "")));
      } else for (const p of placed) svg.append(make("circle", { cx: p[0], cy: p[1], r: 4, fill: one.colour, "fill-opacity": 0.8 }, make("title", {}, one.name ?? "")));
    }
    parent.replaceChildren(heading, legend(series), svg);
  }

  // The mean over the seeds of what `of` finds in each look.
  const overTime = (cell, of) => cell.runs[0].looks.map((look, k) => {
    const values = cell.runs.map((run) => run.looks[k]).filter(Boolean).map(of).filter(known);
    return [look.epoch, values.length ? mean(values) : null];
  });
  const lines = (cells, of) => cells.map((cell, k) => ({ name: cell.name, line: true, ...style(k), points: overTime(cell, of) }));

  function time(group) {
    const cells = data.cells.filter((cell) => cell.group === group), epochs = { title: "epoch" };
    plot("rate", "KL of a mesh", { x: epochs, y: { title: "nats", log: true }, series: lines(cells, (look) => look.posterior?.rate) });
    plot("explained", "Variance explained", { x: epochs, y: { title: "share" }, series: lines(cells, (look) => look.explained) });
    plot("gradients", "Gradient of the KL over that of the reconstruction", { x: epochs, y: { title: "ratio of norms", log: true }, series: lines(cells, (look) => look.gradient && look.gradient.rate / look.gradient.reconstruction) });
    plot("variances", "Least log-variance of a posterior", { x: epochs, y: { title: "log-variance" }, series: lines(cells, (look) => look.posterior?.log_variance[0]) });
  }

  function theory(name) {
    const cells = data.cells.filter((cell) => cell.spectrum === name && cell.curve), first = cells[0];
    const found = (of) => cells.flatMap((cell) => cell.runs.map((run) => [cell.weight, of(run)]));
    const end = (run) => run.looks[run.looks.length - 1];
    const curve = (scope, column) => first.curve.map((row) => [row.weight, row[scope][column]]);
    const both = (column) => [
      { name: "predicted, sites", line: true, colour: COLOURS[0], points: curve("site", column) },
      { name: "predicted, meshes", line: true, colour: COLOURS[0], dash: "7 4", points: curve("mesh", column) },
    ];
    const weight = { title: first.unit, log: true };
    plot("active", "Active units", { x: weight, y: { title: "units" }, series: [...both("active"), { name: "found", colour: COLOURS[1], points: found((run) => end(run).posterior?.active) }] });
    const against = (scope) => first.curve.map((row) => [row[scope].rate, row[scope].explained]);
    plot("distortion", "Rate and distortion", { x: { title: "KL of a mesh (nats)", log: true }, y: { title: "variance explained" }, series: [
      { name: "predicted, sites", line: true, colour: COLOURS[0], points: against("site") },
      { name: "predicted, meshes", line: true, colour: COLOURS[0], dash: "7 4", points: against("mesh") },
      { name: "found", colour: COLOURS[1], points: cells.flatMap((cell) => cell.runs.map((run) => [end(run).posterior?.rate, end(run).explained])) },
    ] });
  }

  function heat(name) {
    const parent = document.getElementById("heat"), cell = data.cells.find((cell) => cell.name === name), looks = cell.runs[0].looks.filter((look) => look.posterior);
    const heading = document.createElement("h3");
    heading.textContent = `${name}, seed ${cell.runs[0].seed}: nats a mesh, channels from the largest at the end`;
    const last = looks[looks.length - 1].posterior.by_channel, order = last.map((_, k) => k).sort((a, b) => last[b] - last[a]);
    const width = Math.max(280, parent.clientWidth - 24), left = 58, top = 8, row = Math.max(6, Math.min(18, 320 / order.length)), height = top + row * order.length + 40;
    const cellWidth = (width - left - 10) / looks.length, most = Math.max(1e-9, ...looks.flatMap((look) => look.posterior.by_channel));
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": heading.textContent });
    looks.forEach((look, k) => order.forEach((channel, place) => {
      const value = look.posterior.by_channel[channel], share = Math.max(0, 1 + Math.log10(Math.max(value, 1e-12) / most) / 5);
      svg.append(make("rect", { x: left + k * cellWidth, y: top + place * row, width: cellWidth + 0.5, height: row + 0.5, fill: "var(--accent)", "fill-opacity": share.toFixed(3) }, make("title", {}, `epoch ${plain(look.epoch)}, channel ${channel}: ${plain(value)} nats`)));
    }));
    for (let k = 0; k < looks.length; k += Math.ceil(looks.length / 6)) svg.append(make("text", { x: left + (k + 0.5) * cellWidth, y: top + row * order.length + 18, "text-anchor": "middle" }, plain(looks[k].epoch)));
    svg.append(make("text", { x: left + (width - left) / 2, y: height - 4, "text-anchor": "middle" }, "epoch"), make("text", { x: 0, y: top + 12 }, "channel"));
    const note = document.createElement("p");
    note.className = "hint";
    note.textContent = `Full colour: ${plain(most)} nats; each fifth of it is a factor of ten less.`;
    parent.replaceChildren(heading, svg, note);
  }

  function edges() {
    const cells = data.cells.filter((cell) => cell.edge);
    const series = (which) => cells.map((cell, k) => {
      const profiles = cell.runs.map((run) => which(run.looks).edge), distances = profiles[0].pixels.map((_, d) => d);
      const density = (profile, d) => profile.pixels[d] ? profile.magnitude[d] / profile.pixels[d] : null;
      return { name: cell.name, line: true, ...style(k), points: distances.map((d) => [d, mean(profiles.map((profile) => density(profile, d)).filter(known))]) };
    });
    const x = { title: "pixels from the edge, the last and all beyond" }, y = { title: "relative magnitude" };
    plot("edge-first", "Before training", { x, y, series: series((looks) => looks[0]) });
    plot("edge-last", "At the end", { x, y, series: series((looks) => looks[looks.length - 1]) });
  }

  function levels(group) {
    const cells = data.cells.filter((cell) => cell.group === group);
    const series = (of) => cells.map((cell, k) => ({ name: cell.name, line: true, ...style(k), points: data.levels.map((level, at) => [level, mean(cell.runs.map((run) => of(run.end)[at]))]) }));
    plot("occupied", "Occupied pixels of the first mesh", { x: { title: "threshold" }, y: { title: "share" }, series: series((end) => end.occupied) });
    plot("vertices", "Vertices of its surface", { x: { title: "threshold" }, y: { title: "vertices" }, series: series((end) => end.vertices) });
  }

  function chooser(select, box, names, draw) {
    const node = document.getElementById(select);
    for (const name of names) node.append(new Option(name, name));
    document.getElementById(box).hidden = names.length < 2;
    node.addEventListener("change", () => draw(node.value));
    return () => names.length && draw(node.value);
  }
  const distinct = (values) => [...new Set(values.filter(Boolean))];
  const redraw = [
    chooser("group", "groups", distinct(data.cells.map((cell) => cell.group)), (group) => { time(group); levels(group); }),
    chooser("spectrum", "spectra", distinct(data.cells.map((cell) => cell.curve && cell.spectrum)), theory),
    chooser("heat-cell", "heats", data.cells.filter((cell) => cell.runs[0].looks.some((look) => look.posterior?.by_channel.length)).map((cell) => cell.name), heat),
    edges,
  ];
  const all = () => redraw.forEach((draw) => draw());
  all();
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; all(); } });
})();
