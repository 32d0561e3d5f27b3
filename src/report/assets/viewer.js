// Two linked WebGL 2 panes over the meshes of the page, and the theme button.
"use strict";
const report = JSON.parse(document.getElementById("report-data").textContent);

(() => {
  const themes = ["system", "light", "dark"];
  const button = document.getElementById("theme");
  let theme = "system";
  button.hidden = false;
  button.onclick = () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  const open = document.getElementById("planes-open");
  const large = document.getElementById("planes-large");
  if (open && large.showModal) open.onclick = () => {
    if (!large.querySelector("img")) large.append(document.getElementById("planes").cloneNode());
    large.showModal();
  };
})();

(() => {
  const VERTEX = `#version 300 es
    in vec3 position; in vec3 normal; in float hollow;
    uniform mat4 projection, view;
    out vec3 at, facing; out float dim;
    void main() {
      vec4 eye = view * vec4(position, 1.0);
      at = eye.xyz; facing = mat3(view) * normal; dim = hollow;
      gl_Position = projection * eye;
    }`;
  // Clay under a warm key light, a cool fill and a rim light, all fixed to the camera. Hollows are
  // darkened a little. The inside of the surface is slate blue, so that holes are seen as holes.
  const FRAGMENT = `#version 300 es
    precision highp float;
    in vec3 at, facing; in float dim;
    uniform vec4 line;
    out vec4 colour;
    const vec3 KEY = normalize(vec3(-0.55, 0.65, 0.62)), FILL = normalize(vec3(0.85, 0.05, 0.45)),
               RIM = normalize(vec3(0.35, 0.55, -0.75));
    float wrapped(float c, float w) { return max(0.0, (c + w) / (1.0 + w)); }
    void main() {
      if (line.a > 0.0) { colour = vec4(line.rgb * line.a, line.a); return; }
      vec3 n = normalize(facing), eye = normalize(-at);
      vec3 base = vec3(0.60, 0.49, 0.41);
      if (!gl_FrontFacing) { n = -n; base = vec3(0.16, 0.22, 0.32); }
      float shade = clamp(1.0 + dim, 0.45, 1.12);
      vec3 light = mix(vec3(0.10, 0.095, 0.09), vec3(0.20, 0.22, 0.25), 0.5 + 0.5 * n.y);
      light += vec3(1.05, 0.98, 0.88) * wrapped(dot(n, KEY), 0.15);
      light += vec3(0.20, 0.25, 0.33) * wrapped(dot(n, FILL), 0.35);
      float edge = pow(1.0 - max(dot(n, eye), 0.0), 3.0);
      vec3 rim = vec3(0.55, 0.60, 0.68) * edge * wrapped(dot(n, RIM), 0.5);
      float gloss = pow(max(dot(n, normalize(KEY + eye)), 0.0), 22.0) * 0.10;
      vec3 linear = base * light * shade + rim * 0.5 + gloss;
      colour = vec4(pow(linear / (1.0 + 0.18 * linear), vec3(1.0 / 2.2)), 1.0);
    }`;

  async function unpack(entry) {
    const text = atob(document.getElementById(entry.block).textContent);
    const packed = Uint8Array.from(text, (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    const count = entry.vertices, positions = new Float32Array(3 * count);
    for (let axis = 0; axis < 3; axis++) {
      const low = 2 * axis * count, high = low + count;
      for (let i = 0, value = 0; i < count; i++) {
        const zigzag = bytes[low + i] | (bytes[high + i] << 8);
        value = (value + ((zigzag >> 1) ^ -(zigzag & 1))) & 65535;
        positions[3 * i + axis] = entry.low[axis] + entry.step * value;
      }
    }
    const indices = new Uint32Array(3 * entry.triangles);
    for (let i = 0, next = 0, place = 6 * count; i < indices.length; i++) {
      let below = 0, shift = 0, byte;
      do { byte = bytes[place++]; below |= (byte & 127) << shift; shift += 7; } while (byte & 128);
      indices[i] = next - below;
      if (below === 0) next++;
    }
    return { positions, indices, ...smoothed(positions, indices) };
  }

  // Normals weighted by area, and how hollow the surface is at a vertex: the height of its neighbours'
  // mean above the tangent plane, against their distance; negative where hollow.
  function smoothed(positions, indices) {
    const normals = new Float32Array(positions.length), count = positions.length / 3;
    for (let t = 0; t < indices.length; t += 3) {
      const a = 3 * indices[t], b = 3 * indices[t + 1], c = 3 * indices[t + 2];
      const ux = positions[b] - positions[a], uy = positions[b + 1] - positions[a + 1], uz = positions[b + 2] - positions[a + 2];
      const vx = positions[c] - positions[a], vy = positions[c + 1] - positions[a + 1], vz = positions[c + 2] - positions[a + 2];
      const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
      for (const v of [a, b, c]) { normals[v] += x; normals[v + 1] += y; normals[v + 2] += z; }
    }
    for (let v = 0; v < normals.length; v += 3) {
      const length = Math.hypot(normals[v], normals[v + 1], normals[v + 2]) || 1;
      normals[v] /= length; normals[v + 1] /= length; normals[v + 2] /= length;
    }
    const height = new Float32Array(count), reach = new Float32Array(count);
    const eachEdge = (visit) => {
      for (let t = 0; t < indices.length; t += 3)
        for (let k = 0; k < 3; k++) visit(indices[t + k], indices[t + (k + 1) % 3]);
    };
    eachEdge((from, to) => {
      const a = 3 * from, b = 3 * to;
      const x = positions[b] - positions[a], y = positions[b + 1] - positions[a + 1], z = positions[b + 2] - positions[a + 2];
      height[from] += x * normals[a] + y * normals[a + 1] + z * normals[a + 2];
      reach[from] += Math.hypot(x, y, z);
    });
    let hollow = new Float32Array(count);
    for (let v = 0; v < count; v++) hollow[v] = reach[v] > 0 ? -height[v] / reach[v] : 0;
    for (let round = 0; round < 3; round++) {
      const sum = Float32Array.from(hollow), ways = new Float32Array(count).fill(1);
      eachEdge((from, to) => { sum[from] += hollow[to]; ways[from]++; });
      hollow = sum.map((total, v) => total / ways[v]);
    }
    const spread = Math.sqrt(hollow.reduce((total, h) => total + h * h, 0) / count) || 1;
    return { normals, hollow: hollow.map((h) => Math.max(-0.5, Math.min(0.12, 0.16 * h / spread))) };
  }

  function edges(indices) {
    const keys = new Float64Array(indices.length);
    for (let t = 0; t < indices.length; t += 3)
      for (let k = 0; k < 3; k++) {
        const a = indices[t + k], b = indices[t + (k + 1) % 3];
        keys[t + k] = Math.min(a, b) * 4294967296 + Math.max(a, b);
      }
    keys.sort();
    const ends = [];
    keys.forEach((key, i) => { if (key !== keys[i - 1]) ends.push(Math.floor(key / 4294967296), key % 4294967296); });
    return Uint32Array.from(ends);
  }

  const unpacked = new Map();
  const meshOf = (entry) => {
    if (!unpacked.has(entry)) unpacked.set(entry, unpack(entry));
    return unpacked.get(entry);
  };

  class Pane {
    constructor(parent) {
      this.figure = document.createElement("figure");
      this.figure.className = "pane";
      this.caption = document.createElement("figcaption");
      this.message = document.createElement("p");
      this.message.className = "message";
      this.canvas = document.createElement("canvas");
      this.canvas.tabIndex = 0;
      this.canvas.setAttribute("role", "img");
      this.figure.append(this.canvas, this.caption, this.message);
      parent.append(this.figure);
      this.canvas.addEventListener("webglcontextlost", (event) => { event.preventDefault(); this.gl = null; });
      this.canvas.addEventListener("webglcontextrestored", () => { this.start(); if (this.entry) this.show(this.entry); });
      this.start();
    }

    start() {
      const gl = this.canvas.getContext("webgl2", { antialias: true });
      if (!gl) return;
      const program = gl.createProgram();
      for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
        const shader = gl.createShader(kind);
        gl.shaderSource(shader, source);
        gl.compileShader(shader);
        gl.attachShader(program, shader);
      }
      gl.linkProgram(program);
      if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return;
      gl.useProgram(program);
      gl.enable(gl.DEPTH_TEST);
      gl.enable(gl.POLYGON_OFFSET_FILL);
      gl.polygonOffset(1, 1);
      this.program = program;
      this.uniform = (name) => gl.getUniformLocation(program, name);
      this.gl = gl;
      this.shapes = new Map();
    }

    async show(entry) {
      this.entry = entry;
      this.shape = null;
      const name = entry ? entry.name : "result";
      const counted = !entry || !entry.triangles ? "" : entry.triangles < entry.total
        ? `shown with ${entry.triangles.toLocaleString("en")} of ${entry.total.toLocaleString("en")} triangles`
        : `${entry.triangles.toLocaleString("en")} triangles`;
      const detail = document.createElement("small");
      detail.textContent = counted;
      this.caption.replaceChildren(name[0].toUpperCase() + name.slice(1), detail);
      this.canvas.setAttribute("aria-label", `${name}: ${counted || "no surface"}`);
      this.message.textContent = "";
      if (!entry) this.message.textContent = "No mesh.";
      else if (!entry.triangles) this.message.textContent = "No surface: this mesh has no triangles.";
      else if (!this.gl) this.message.textContent = "This picture needs WebGL 2, which this browser does not offer here.";
      else {
        this.message.textContent = "Unpacking…";
        try {
          const mesh = await meshOf(entry);
          if (this.entry !== entry) return;
          this.shape = this.upload(entry, mesh);
          this.message.textContent = "";
        } catch (error) {
          if (this.entry === entry) this.message.textContent = `This mesh cannot be shown: ${error.message}`;
        }
      }
      redraw();
    }

    upload(entry, mesh) {
      if (this.shapes.has(entry)) return this.shapes.get(entry);
      const gl = this.gl, array = gl.createVertexArray();
      gl.bindVertexArray(array);
      for (const [name, data, size] of [["position", mesh.positions, 3], ["normal", mesh.normals, 3], ["hollow", mesh.hollow, 1]]) {
        const place = gl.getAttribLocation(this.program, name);
        gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
        gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
        gl.enableVertexAttribArray(place);
        gl.vertexAttribPointer(place, size, gl.FLOAT, false, 0, 0);
      }
      const faces = gl.createBuffer();
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, faces);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mesh.indices, gl.STATIC_DRAW);
      const shape = { array, faces, count: mesh.indices.length, indices: mesh.indices };
      this.shapes.set(entry, shape);
      return shape;
    }

    draw(camera, wireframe) {
      const gl = this.gl, canvas = this.canvas;
      if (!gl) return;
      const ratio = Math.min(window.devicePixelRatio || 1, 3);
      const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
      if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
      gl.viewport(0, 0, width, height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      if (!this.shape) return;
      gl.uniformMatrix4fv(this.uniform("projection"), false, camera.projection(width / height));
      gl.uniformMatrix4fv(this.uniform("view"), false, camera.view());
      gl.bindVertexArray(this.shape.array);
      gl.uniform4f(this.uniform("line"), 0, 0, 0, 0);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.shape.faces);
      gl.drawElements(gl.TRIANGLES, this.shape.count, gl.UNSIGNED_INT, 0);
      if (!wireframe) return;
      if (!this.shape.lines) {
        const ends = edges(this.shape.indices);
        this.shape.lines = gl.createBuffer();
        gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.shape.lines);
        gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, ends, gl.STATIC_DRAW);
        this.shape.ends = ends.length;
      }
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      gl.uniform4f(this.uniform("line"), 0.05, 0.1, 0.2, 0.45);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.shape.lines);
      gl.drawElements(gl.LINES, this.shape.ends, gl.UNSIGNED_INT, 0);
      gl.disable(gl.BLEND);
    }
  }

  const START = { yaw: -0.45, pitch: 0.12, zoom: 1, x: 0, y: 0 };
  const FIELD = 0.5;
  class Camera {
    constructor(entry) {
      this.centre = [0, 0, 0];
      this.radius = 1;
      if (entry && entry.size) {
        this.centre = entry.low.map((low, axis) => low + entry.size[axis] / 2);
        this.radius = Math.hypot(...entry.size) / 2;
      }
      this.reset();
    }
    reset() { Object.assign(this, START, { spinYaw: 0, spinPitch: 0 }); }
    turn(yaw, pitch) {
      this.yaw += yaw;
      this.pitch = Math.max(-1.55, Math.min(1.55, this.pitch + pitch));
    }
    scale(factor) { this.zoom = Math.max(0.3, Math.min(30, this.zoom * factor)); }
    // By fractions of the pane's height.
    move(x, y) {
      this.x += (x * 2 * this.radius) / this.zoom;
      this.y += (y * 2 * this.radius) / this.zoom;
    }
    distance() { return (0.84 * this.radius) / Math.sin(FIELD / 2) / this.zoom; }
    projection(aspect) {
      const tall = 1 / Math.tan(FIELD / 2) * Math.min(1, aspect * 1.15), far = this.distance() + 4 * this.radius;
      const near = Math.max(this.distance() - 2 * this.radius, this.distance() / 50);
      return [tall / aspect, 0, 0, 0, 0, tall, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0, (2 * far * near) / (near - far), 0];
    }
    view() {
      const [sy, cy, sp, cp] = [Math.sin(this.yaw), Math.cos(this.yaw), Math.sin(this.pitch), Math.cos(this.pitch)];
      const right = [cy, 0, sy], up = [sp * sy, cp, -sp * cy], back = [-cp * sy, sp, cp * cy];
      const along = (v) => v[0] * this.centre[0] + v[1] * this.centre[1] + v[2] * this.centre[2];
      return [right[0], up[0], back[0], 0, right[1], up[1], back[1], 0, right[2], up[2], back[2], 0,
        this.x - along(right), this.y - along(up), -this.distance() - along(back), 1];
    }
  }

  const input = report.meshes.find((mesh) => mesh.name === "input");
  const results = report.meshes.filter((mesh) => mesh !== input);
  const camera = new Camera([input, ...results].find((mesh) => mesh && mesh.triangles));
  const parent = document.getElementById("panes");
  const panes = [new Pane(parent), new Pane(parent)];
  const wireframe = document.getElementById("wireframe"), turning = document.getElementById("turn");
  let waiting = false, before = 0, seen = true;

  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame((now) => {
      waiting = false;
      const passed = Math.min(0.05, (now - before) / 1000);
      before = now;
      if (turning.checked && !held.size) camera.turn(0.35 * passed, 0);
      if (!held.size) {
        camera.turn(camera.spinYaw * passed, camera.spinPitch * passed);
        const kept = Math.exp(-5 * passed);
        camera.spinYaw *= kept;
        camera.spinPitch *= kept;
      }
      for (const pane of panes) pane.draw(camera, wireframe.checked);
      const spinning = Math.hypot(camera.spinYaw, camera.spinPitch) > 0.01;
      if (seen && (turning.checked || spinning)) redraw();
    });
  }

  const held = new Map();
  const touched = () => { turning.checked = false; };
  function listen(canvas) {
    const end = (event) => {
      const pointer = held.get(event.pointerId);
      held.delete(event.pointerId);
      // A pointer that rested before it left gives no swing.
      if (pointer && event.timeStamp - pointer.time > 80) camera.spinYaw = camera.spinPitch = 0;
      redraw();
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      held.set(event.pointerId, { x: event.clientX, y: event.clientY, time: event.timeStamp, move: event.shiftKey || event.button > 0 });
      camera.spinYaw = camera.spinPitch = 0;
      touched();
    });
    canvas.addEventListener("pointermove", (event) => {
      const pointer = held.get(event.pointerId);
      if (!pointer) return;
      const dx = event.clientX - pointer.x, dy = event.clientY - pointer.y, tall = canvas.clientHeight;
      const others = [...held].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
      if (others.length) {
        const reach = (x, y) => Math.hypot(x - others[0].x, y - others[0].y);
        camera.scale(reach(event.clientX, event.clientY) / Math.max(8, reach(pointer.x, pointer.y)));
        camera.move(dx / tall / 2, -dy / tall / 2);
      } else if (pointer.move) camera.move(dx / tall, -dy / tall);
      else {
        camera.turn((4.5 * dx) / tall, (4.5 * dy) / tall);
        const passed = Math.max(4, event.timeStamp - pointer.time) / 1000;
        camera.spinYaw = 0.6 * camera.spinYaw + 0.4 * (4.5 * dx) / tall / passed;
        camera.spinPitch = 0.6 * camera.spinPitch + 0.4 * (4.5 * dy) / tall / passed;
      }
      Object.assign(pointer, { x: event.clientX, y: event.clientY, time: event.timeStamp });
      redraw();
    });
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const pixels = event.deltaY * [1, 20, 400][event.deltaMode];
      camera.scale(Math.exp(-Math.max(-120, Math.min(120, pixels)) * 0.002));
      touched();
      redraw();
    }, { passive: false });
    canvas.addEventListener("dblclick", () => { camera.reset(); redraw(); });
    canvas.addEventListener("keydown", (event) => {
      const act = {
        ArrowLeft: () => camera.turn(-0.12, 0), ArrowRight: () => camera.turn(0.12, 0),
        ArrowUp: () => camera.turn(0, -0.12), ArrowDown: () => camera.turn(0, 0.12),
        "+": () => camera.scale(1.15), "=": () => camera.scale(1.15), "-": () => camera.scale(1 / 1.15),
        0: () => camera.reset(),
      }[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      touched();
      act();
      redraw();
    });
  }

  const which = document.getElementById("which");
  results.forEach((entry, index) => {
    const label = document.createElement("label"), radio = document.createElement("input"), text = document.createElement("span");
    Object.assign(radio, { type: "radio", name: "which", checked: index === 0 });
    text.textContent = entry.name[0].toUpperCase() + entry.name.slice(1);
    radio.onchange = () => panes[1].show(entry);
    label.append(radio, text);
    which.append(label);
  });
  document.getElementById("viewer-controls").hidden = false;
  document.getElementById("reset").onclick = () => { camera.reset(); redraw(); };
  wireframe.onchange = turning.onchange = redraw;
  turning.checked = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  for (const pane of panes) listen(pane.canvas);
  new ResizeObserver(redraw).observe(parent);
  new IntersectionObserver((views) => { seen = views[views.length - 1].isIntersecting; if (seen) redraw(); }).observe(parent);
  panes[0].show(input);
  panes[1].show(results[0]);
})();
