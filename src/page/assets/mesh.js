// Two WebGL 2 panes with one camera: the input at the left, what came back at the right. A mesh is uploaded once; a frame
// sets two matrices and draws.

import { Camera, steer } from "./camera.js";
import { FAR } from "./colour.js";
import { edgesOf, smoothed } from "./geometry.js";
import { MARK_FRAGMENT, MARK_VERTEX, SURFACE_FRAGMENT, SURFACE_VERTEX, buildProgram } from "./shaders.js";

/** @typedef {import("./binary.js").Mesh} Mesh */
/** @typedef {import("./geometry.js").Vector} Vector */
/** A ray through the cube and the point where it meets the surface. @typedef {{ from: Vector, to: Vector, point: Vector | null }} Mark */
/**
 * What is on the card of one mesh.
 * @typedef {{ array: WebGLVertexArrayObject, buffers: WebGLBuffer[], faces: WebGLBuffer, count: number, lines: WebGLBuffer | null, ends: number }} Shape
 */
/** @typedef {Record<string, WebGLUniformLocation | null>} Places */

const RAMP = new Float32Array(FAR.flat().map((value) => value / 255));

export class MeshPane {
  /** @param {HTMLCanvasElement} canvas @param {HTMLElement} message */
  constructor(canvas, message) {
    this.canvas = canvas;
    this.message = message;
    /** @type {Mesh | null} */
    this.mesh = null;
    /** @type {Shape | null} */
    this.shape = null;
    this.wireframe = false;
    /** Distance with the last colour of the scale; 0: clay. */
    this.farthest = 0;
    /** @type {Mark | null} */
    this.mark = null;
    /** The ray's ends and the point. */
    this.marks = new Float32Array(9);
    /** @type {WebGL2RenderingContext | null} */
    this.gl = null;
    canvas.addEventListener("webglcontextlost", (event) => { event.preventDefault(); this.gl = null; this.shape = null; });
    canvas.addEventListener("webglcontextrestored", () => { this.start(); this.show(this.mesh, ""); this.loadMark(); });
    this.start();
  }

  start() {
    const gl = this.canvas.getContext("webgl2", { antialias: true });
    if (!gl) return;
    const surface = buildProgram(gl, SURFACE_VERTEX, SURFACE_FRAGMENT), lines = buildProgram(gl, MARK_VERTEX, MARK_FRAGMENT);
    if (!surface || !lines) return;
    this.surface = surface;
    this.lines = lines;
    /** @type {Places} */
    this.places = {};
    for (const name of ["projection", "view", "line", "farthest", "scale"]) this.places[name] = gl.getUniformLocation(surface, name);
    /** @type {Places} */
    this.markPlaces = {};
    for (const name of ["projection", "view", "ink", "size"]) this.markPlaces[name] = gl.getUniformLocation(lines, name);
    gl.useProgram(surface);
    gl.uniform3fv(this.places.scale, RAMP);
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.POLYGON_OFFSET_FILL);
    gl.polygonOffset(1, 1);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.ray = { array: gl.createVertexArray(), buffer: gl.createBuffer() };
    gl.bindVertexArray(this.ray.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.ray.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, this.marks, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
    this.gl = gl;
  }

  /** @param {Mesh | null} mesh @param {string} message in its place, where there is none */
  show(mesh, message) {
    this.mesh = mesh;
    this.message.textContent = message || (this.gl ? "" : "This picture needs WebGL 2, which this browser does not offer here.");
    this.message.hidden = !this.message.textContent;
    if (this.gl && this.shape) {
      for (const buffer of this.shape.buffers) this.gl.deleteBuffer(buffer);
      this.gl.deleteVertexArray(this.shape.array);
      if (this.shape.lines) this.gl.deleteBuffer(this.shape.lines);
    }
    this.shape = mesh && mesh.indices.length && this.gl ? this.upload(this.gl, mesh) : null;
  }

  /** @param {WebGL2RenderingContext} gl @param {Mesh} mesh @returns {Shape} */
  upload(gl, mesh) {
    const array = /** @type {WebGLVertexArrayObject} */ (gl.createVertexArray());
    const { normals, hollow } = smoothed(mesh);
    /** @type {WebGLBuffer[]} */
    const buffers = [];
    const fill = (/** @type {number} */ target, /** @type {Float32Array | Uint32Array} */ data) => {
      const buffer = /** @type {WebGLBuffer} */ (gl.createBuffer());
      buffers.push(buffer);
      gl.bindBuffer(target, buffer);
      gl.bufferData(target, data, gl.STATIC_DRAW);
      return buffer;
    };
    gl.bindVertexArray(array);
    [mesh.positions, normals, hollow, mesh.distances].forEach((data, place) => {
      if (!data) return;
      fill(gl.ARRAY_BUFFER, data);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, place < 2 ? 3 : 1, gl.FLOAT, false, 0, 0);
    });
    const faces = fill(gl.ELEMENT_ARRAY_BUFFER, mesh.indices);
    return { array, buffers, faces, count: mesh.indices.length, lines: null, ends: 0 };
  }

  /** Marks a ray and a point, or nothing. Says whether that changes the picture. @param {Mark | null} mark */
  setMark(mark) {
    const alike = String(mark && [mark.from, mark.to, mark.point]) === String(this.mark && [this.mark.from, this.mark.to, this.mark.point]);
    if (alike) return false;
    this.mark = mark;
    this.loadMark();
    return true;
  }

  loadMark() {
    const { mark } = this;
    if (!mark || !this.gl || !this.ray) return;
    this.marks.set(mark.from, 0);
    this.marks.set(mark.to, 3);
    this.marks.set(mark.point || mark.to, 6);
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.ray.buffer);
    this.gl.bufferSubData(this.gl.ARRAY_BUFFER, 0, this.marks);
  }

  /** @param {Camera} camera @param {boolean} dark */
  draw(camera, dark) {
    const gl = this.gl, canvas = this.canvas;
    if (!gl || !this.surface || !this.places) return;
    const ratio = Math.min(window.devicePixelRatio || 1, 3);
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    camera.update(width / height);
    const shape = this.shape;
    if (shape) {
      gl.useProgram(this.surface);
      gl.uniformMatrix4fv(this.places.projection, false, camera.projection);
      gl.uniformMatrix4fv(this.places.view, false, camera.view);
      gl.uniform1f(this.places.farthest, this.mesh && this.mesh.distances ? this.farthest : 0);
      gl.uniform4f(this.places.line, 0, 0, 0, 0);
      gl.bindVertexArray(shape.array);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, shape.faces);
      gl.drawElements(gl.TRIANGLES, shape.count, gl.UNSIGNED_INT, 0);
      if (this.wireframe) this.drawEdges(gl, shape);
    }
    if (this.mark) this.drawMark(gl, camera, ratio, dark);
  }

  /** @param {WebGL2RenderingContext} gl @param {Shape} shape */
  drawEdges(gl, shape) {
    if (!shape.lines && this.mesh) {
      const ends = edgesOf(this.mesh.indices);
      shape.lines = gl.createBuffer();
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, shape.lines);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, ends, gl.STATIC_DRAW);
      shape.ends = ends.length;
    }
    gl.enable(gl.BLEND);
    if (this.places) gl.uniform4f(this.places.line, 0.05, 0.1, 0.2, 0.45);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, shape.lines);
    gl.drawElements(gl.LINES, shape.ends, gl.UNSIGNED_INT, 0);
    gl.disable(gl.BLEND);
  }

  /** @param {WebGL2RenderingContext} gl @param {Camera} camera @param {number} ratio @param {boolean} dark */
  drawMark(gl, camera, ratio, dark) {
    const places = this.markPlaces;
    if (!places || !this.lines || !this.ray) return;
    gl.useProgram(this.lines);
    gl.uniformMatrix4fv(places.projection, false, camera.projection);
    gl.uniformMatrix4fv(places.view, false, camera.view);
    gl.uniform1f(places.size, 0);
    gl.enable(gl.BLEND);
    if (dark) gl.uniform4f(places.ink, 0.42, 0.74, 0.94, 1);
    else gl.uniform4f(places.ink, 0, 0.39, 0.62, 1);
    gl.bindVertexArray(this.ray.array);
    gl.drawArrays(gl.LINES, 0, 2);
    if (this.mark && this.mark.point) {
      // Seen through the surface too: the point may be on the far side.
      gl.disable(gl.DEPTH_TEST);
      gl.uniform1f(places.size, 11 * ratio);
      gl.drawArrays(gl.POINTS, 2, 1);
      gl.enable(gl.DEPTH_TEST);
    }
    gl.disable(gl.BLEND);
  }
}

/** Both panes, their camera, and the frames. */
export class Stage {
  /** @param {MeshPane[]} panes */
  constructor(panes) {
    this.panes = panes;
    this.camera = new Camera();
    this.dark = false;
    /** Milliseconds of script of the last frames, in turn. */
    this.costs = new Float32Array(256);
    this.frames = 0;
    /** Panes that the next frame draws: without a card a pane that looks as before costs as much as one that does not. */
    this.stale = panes.map(() => true);
    this.waiting = false;
    this.before = 0;
    /** @type {Map<number, { x: number, y: number, time: number, move: boolean }>} */
    this.held = new Map();
    this.frame = this.frame.bind(this);
    this.redraw = this.redraw.bind(this);
    for (const pane of panes) {
      steer(pane.canvas, this.camera, this.held, this.redraw);
      new ResizeObserver(this.redraw).observe(pane.canvas);
      pane.canvas.addEventListener("webglcontextrestored", this.redraw);
    }
  }

  /** Both panes. */
  redraw() {
    for (let i = 0; i < this.panes.length; i++) this.redrawPane(i);
  }

  /** @param {number} index */
  redrawPane(index) {
    this.stale[index] = true;
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(this.frame);
  }

  /** @param {number} now */
  frame(now) {
    const begun = performance.now();
    this.waiting = false;
    const more = this.camera.advance(Math.min(0.1, (now - this.before) / 1000), this.held.size > 0);
    this.before = now;
    for (let i = 0; i < this.panes.length; i++) {
      if (this.stale[i]) this.panes[i].draw(this.camera, this.dark);
      this.stale[i] = false;
    }
    this.costs[this.frames++ % this.costs.length] = performance.now() - begun;
    if (more) this.redraw();
  }
}
