// The six views, unfolded like the faces of a cube: hover and keys read a pixel, and with a brush in hand they paint.

import { make } from "./dom.js";
import { VIEWS, dot, pointAt } from "./geometry.js";
import { depthRange, paintDifference, paintView } from "./pixels.js";

/** @typedef {import("./binary.js").Planes} Planes */
/** @typedef {import("./geometry.js").Pixel} Pixel */
/** @typedef {import("./pixels.js").Look} Look */
/** @typedef {"input" | "decoded" | "difference"} Shown */
/** @typedef {{ radius: number }} Brush radius in pixels */

export class Net {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Planes | null} */
    this.input = null;
    /** @type {Planes | null} */
    this.decoded = null;
    /** @type {Shown} */
    this.shown = "decoded";
    /** @type {Look} */
    this.look = "shaded";
    /** Difference of depth with the full colour. */
    this.range = 1;
    /** @type {Brush | null} */
    this.brush = null;
    /** @type {Pixel | null} */
    this.pixel = null;
    /** Depth of the surface on the ray of `pixel`. @type {number | null} */
    this.depth = null;
    /** @type {{ view: number, points: [number, number][] } | null} */
    this.stroke = null;
    /** @param {Pixel | null} _pixel */
    this.onHover = (_pixel) => {};
    /** @param {number} _view @param {[number, number][]} _points */
    this.onStroke = (_view, _points) => {};
    /** @param {number} _view */
    this.onLook = (_view) => {};
    this.faces = VIEWS.map((view, index) => this.face(view.name, index));
    this.over = make("canvas", { class: "over", "aria-hidden": "true" });
    root.append(this.over);
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("blur", () => { if (!this.stroke) this.hover(null); });
    new ResizeObserver(() => this.drawOver()).observe(root);
  }

  /** @param {string} name @param {number} index */
  face(name, index) {
    const canvas = make("canvas", { width: 1, height: 1, "aria-hidden": "true" });
    const face = make("div", { class: `face face-${name}` }, canvas, make("span", { class: "label" }, name));
    face.addEventListener("pointermove", (event) => this.point(event, face, index));
    face.addEventListener("pointerdown", (event) => {
      if (event.button > 0) return;
      if (!this.brush) return this.point(event, face, index);
      face.setPointerCapture(event.pointerId);
      this.stroke = { view: index, points: [this.place(event, face)] };
      this.point(event, face, index);
    });
    face.addEventListener("pointerup", () => this.endStroke());
    face.addEventListener("pointercancel", () => { this.stroke = null; this.drawOver(); });
    face.addEventListener("pointerleave", (event) => { if (!this.stroke && event.pointerType !== "touch") this.hover(null); });
    face.addEventListener("dblclick", () => { if (!this.brush) this.onLook(index); });
    this.root.append(face);
    return { face, canvas };
  }

  size() { return (this.decoded || this.input || { size: 1 }).size; }

  /** Where a pointer is on a face, in pixels of the plane. @param {PointerEvent} event @param {HTMLElement} face @returns {[number, number]} */
  place(event, face) {
    const box = face.getBoundingClientRect(), size = this.size(), digits = (/** @type {number} */ v) => Math.round(100 * v) / 100;
    return [digits(((event.clientX - box.left) / box.width) * size), digits(((event.clientY - box.top) / box.height) * size)];
  }

  /** @param {PointerEvent} event @param {HTMLElement} face @param {number} index */
  point(event, face, index) {
    const [x, y] = this.place(event, face), last = this.size() - 1;
    if (this.stroke && this.stroke.view === index) {
      const [px, py] = this.stroke.points[this.stroke.points.length - 1];
      if (this.brush && Math.hypot(x - px, y - py) > Math.max(0.5, 0.2 * this.brush.radius)) this.stroke.points.push([x, y]);
    }
    this.hover({ view: index, x: Math.max(0, Math.min(last, Math.floor(x))), y: Math.max(0, Math.min(last, Math.floor(y))) });
  }

  endStroke() {
    if (!this.stroke) return;
    const { view, points } = this.stroke;
    this.stroke = null;
    this.drawOver();
    this.onStroke(view, points);
  }

  /** @param {Pixel | null} pixel */
  hover(pixel) {
    this.pixel = pixel;
    this.depth = null;
    this.onHover(pixel);
    this.drawOver();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.root) return;
    const last = this.size() - 1, by = event.shiftKey ? 10 : 1;
    const now = this.pixel || { view: 2, x: last >> 1, y: last >> 1 };
    const clamp = (/** @type {number} */ v) => Math.max(0, Math.min(last, v));
    const number = Number(event.key);
    if (event.key === "ArrowLeft") this.hover({ ...now, x: clamp(now.x - by) });
    else if (event.key === "ArrowRight") this.hover({ ...now, x: clamp(now.x + by) });
    else if (event.key === "ArrowUp") this.hover({ ...now, y: clamp(now.y - by) });
    else if (event.key === "ArrowDown") this.hover({ ...now, y: clamp(now.y + by) });
    else if (number >= 1 && number <= 6) this.hover({ ...now, view: number - 1 });
    else if (event.key === "Enter") this.onLook(now.view);
    else if (event.key === " " && this.brush) this.onStroke(now.view, [[now.x + 0.5, now.y + 0.5]]);
    else if (event.key === "Escape") this.hover(null);
    else return;
    event.preventDefault();
  }

  draw() {
    const a = this.input, b = this.decoded;
    const planes = this.shown === "input" ? a : b;
    const alike = a && b && a.size === b.size && a.channels === b.channels;
    const ink = /** @type {[number, number, number]} */ ((getComputedStyle(this.root).color.match(/[\d.]+/g) || [0, 0, 0]).slice(0, 3).map(Number));
    if (this.shown === "difference" && alike) this.range = depthRange(a, b);
    for (let view = 0; view < 6; view++) {
      const { canvas } = this.faces[view], pen = canvas.getContext("2d");
      if (!pen) continue;
      if (!planes || (this.shown === "difference" && !alike)) { pen.clearRect(0, 0, canvas.width, canvas.height); continue; }
      if (canvas.width !== planes.size) canvas.width = canvas.height = planes.size;
      const picture = pen.createImageData(planes.size, planes.size);
      if (this.shown === "difference" && a && b) paintDifference(a, b, view, this.look, this.range, picture.data);
      else paintView(planes, view, this.look, ink, picture.data);
      pen.putImageData(picture, 0, 0);
    }
    this.root.setAttribute("aria-label", `Six views of the ${this.shown === "difference" ? "difference of decoded and input" : this.shown} planes, unfolded. `
      + "Arrow keys move a pixel, 1 to 6 choose the view, Enter turns the meshes to it.");
    this.drawOver();
  }

  /** The pixel, its ray as the other views see it, and the brush. */
  drawOver() {
    const pen = this.over.getContext("2d"), ratio = Math.min(window.devicePixelRatio || 1, 3);
    if (!pen) return;
    const width = Math.round(this.root.clientWidth * ratio), height = Math.round(this.root.clientHeight * ratio);
    if (this.over.width !== width || this.over.height !== height) { this.over.width = width; this.over.height = height; }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!this.pixel || !(this.input || this.decoded)) return;
    const size = this.size(), accent = getComputedStyle(this.root).getPropertyValue("--accent");
    pen.strokeStyle = pen.fillStyle = accent;
    pen.lineWidth = 1;
    const near = pointAt(this.pixel, size, 0), far = pointAt(this.pixel, size, 1), hit = this.depth === null ? null : pointAt(this.pixel, size, this.depth);
    VIEWS.forEach((view, index) => {
      const { face } = this.faces[index], edge = face.clientWidth;
      const across = (/** @type {ArrayLike<number>} */ p) => face.offsetLeft + (edge * (1 + dot(view.right, p))) / 2;
      const down = (/** @type {ArrayLike<number>} */ p) => face.offsetTop + (edge * (1 - dot(view.up, p))) / 2;
      const own = this.pixel && index === this.pixel.view;
      if (own && this.brush) this.drawBrush(pen, face, edge / size);
      else if (!this.brush) {
        pen.globalAlpha = own ? 1 : 0.55;
        pen.beginPath();
        if (own) pen.rect(face.offsetLeft + 0.5, face.offsetTop + 0.5, edge - 1, edge - 1);
        pen.moveTo(across(near), down(near));
        pen.lineTo(across(far), down(far));
        pen.stroke();
        pen.globalAlpha = 1;
        const p = own ? near : hit;
        if (p) this.dot(pen, across(p), down(p), own ? 4 : 2.5);
      }
    });
  }

  /** @param {CanvasRenderingContext2D} pen @param {number} x @param {number} y @param {number} radius */
  dot(pen, x, y, radius) {
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
    pen.strokeStyle = "#fff";
    pen.stroke();
    pen.strokeStyle = pen.fillStyle;
  }

  /** @param {CanvasRenderingContext2D} pen @param {HTMLElement} face @param {number} scale css pixels a pixel of the plane */
  drawBrush(pen, face, scale) {
    if (!this.brush || !this.pixel) return;
    const radius = this.brush.radius * scale;
    const stroke = this.stroke;
    pen.save();
    pen.beginPath();
    pen.rect(face.offsetLeft, face.offsetTop, face.clientWidth, face.clientHeight);
    pen.clip();
    if (stroke) {
      pen.globalAlpha = 0.3;
      pen.lineWidth = 2 * radius;
      pen.lineCap = pen.lineJoin = "round";
      pen.beginPath();
      stroke.points.forEach(([x, y], i) => {
        const px = face.offsetLeft + x * scale, py = face.offsetTop + y * scale;
        if (i === 0) pen.moveTo(px, py);
        pen.lineTo(px + (i === 0 ? 0.01 : 0), py);
      });
      pen.stroke();
    }
    pen.globalAlpha = 1;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(face.offsetLeft + (this.pixel.x + 0.5) * scale, face.offsetTop + (this.pixel.y + 0.5) * scale, radius, 0, 2 * Math.PI);
    pen.stroke();
    pen.restore();
  }
}
