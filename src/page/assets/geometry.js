// The frame of the six views (docs/method.md, "Frame and views"), and what the page works out from triangles.

/** @typedef {import("./binary.js").Mesh} Mesh */
/** @typedef {[number, number, number]} Vector */
/**
 * `row` and `column` are the face's place in the unfolded cube: four around the head, and the two ends above and below
 * the front, which join there without a turn.
 * @typedef {{ name: string, forward: Vector, right: Vector, up: Vector, row: number, column: number }} View
 */

/** @type {View[]} */
export const VIEWS = [
  { name: "top", forward: [0, -1, 0], right: [1, 0, 0], up: [0, 0, -1], row: 0, column: 1 },
  { name: "bottom", forward: [0, 1, 0], right: [1, 0, 0], up: [0, 0, 1], row: 2, column: 1 },
  { name: "front", forward: [0, 0, -1], right: [1, 0, 0], up: [0, 1, 0], row: 1, column: 1 },
  { name: "back", forward: [0, 0, 1], right: [-1, 0, 0], up: [0, 1, 0], row: 1, column: 3 },
  { name: "left", forward: [-1, 0, 0], right: [0, 0, -1], up: [0, 1, 0], row: 1, column: 2 },
  { name: "right", forward: [1, 0, 0], right: [0, 0, 1], up: [0, 1, 0], row: 1, column: 0 },
];

/** A pixel of a view: column `x` and row `y`. @typedef {{ view: number, x: number, y: number }} Pixel */

/** @param {Vector} a @param {ArrayLike<number>} b */
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

/**
 * Where the ray of a pixel is at a depth: 0 at the near face of the cube, 1 at the far one.
 * @param {Pixel} pixel
 * @param {number} size pixels along an edge
 * @param {number} depth
 * @returns {Vector}
 */
export function pointAt(pixel, size, depth) {
  const { right, up, forward } = VIEWS[pixel.view];
  const u = (2 * pixel.x + 1) / size - 1, v = 1 - (2 * pixel.y + 1) / size, w = 2 * depth - 1;
  const along = (/** @type {number} */ k) => right[k] * u + up[k] * v + forward[k] * w;
  return [along(0), along(1), along(2)];
}

/**
 * The depth at which the ray of a pixel first meets a mesh, or null. The rays run along axes, so that a triangle is met
 * where three signed areas in the plane of the view agree.
 * @param {Mesh} mesh
 * @param {Pixel} pixel
 * @param {number} size
 * @returns {number | null}
 */
export function firstHit(mesh, pixel, size) {
  const { right, up, forward } = VIEWS[pixel.view], { positions, indices } = mesh;
  const axis = (/** @type {Vector} */ v) => v.findIndex((c) => c !== 0);
  const ax = axis(right), ay = axis(up), az = axis(forward), sx = right[ax], sy = up[ay], sz = forward[az];
  const u = ((2 * pixel.x + 1) / size - 1) * sx, v = (1 - (2 * pixel.y + 1) / size) * sy;
  let best = Infinity;
  for (let t = 0; t < indices.length; t += 3) {
    const a = 3 * indices[t], b = 3 * indices[t + 1], c = 3 * indices[t + 2];
    const bx = positions[b + ax] - u, ax0 = positions[a + ax] - u, cx = positions[c + ax] - u;
    if ((ax0 > 0 && bx > 0 && cx > 0) || (ax0 < 0 && bx < 0 && cx < 0)) continue;
    const ay0 = positions[a + ay] - v, by = positions[b + ay] - v, cy = positions[c + ay] - v;
    const wa = bx * cy - by * cx, wb = cx * ay0 - cy * ax0, wc = ax0 * by - ay0 * bx;
    if ((wa < 0 || wb < 0 || wc < 0) && (wa > 0 || wb > 0 || wc > 0)) continue;
    const whole = wa + wb + wc;
    if (whole === 0) continue;
    const w = (sz * (wa * positions[a + az] + wb * positions[b + az] + wc * positions[c + az])) / whole;
    if (w < best) best = w;
  }
  return best === Infinity ? null : (1 + best) / 2;
}

/** @typedef {{ normals: Float32Array, hollow: Float32Array }} Smoothed */

/** @type {WeakMap<Mesh, Smoothed>} */
const smoothedMeshes = new WeakMap();

/**
 * Normals weighted by area, and how hollow the surface is at a vertex: the height of its neighbours' mean above the
 * tangent plane, against their distance; negative where hollow. Kept with the mesh.
 * @param {Mesh} mesh
 * @returns {Smoothed}
 */
export function smoothed(mesh) {
  const known = smoothedMeshes.get(mesh);
  if (known) return known;
  const { positions, indices } = mesh, count = positions.length / 3, normals = new Float32Array(positions.length);
  for (let t = 0; t < indices.length; t += 3) {
    const a = 3 * indices[t], b = 3 * indices[t + 1], c = 3 * indices[t + 2];
    const ux = positions[b] - positions[a], uy = positions[b + 1] - positions[a + 1], uz = positions[b + 2] - positions[a + 2];
    const vx = positions[c] - positions[a], vy = positions[c + 1] - positions[a + 1], vz = positions[c + 2] - positions[a + 2];
    const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
    normals[a] += x; normals[a + 1] += y; normals[a + 2] += z;
    normals[b] += x; normals[b + 1] += y; normals[b + 2] += z;
    normals[c] += x; normals[c + 1] += y; normals[c + 2] += z;
  }
  for (let v = 0; v < normals.length; v += 3) {
    const length = Math.sqrt(normals[v] ** 2 + normals[v + 1] ** 2 + normals[v + 2] ** 2) || 1;
    normals[v] /= length; normals[v + 1] /= length; normals[v + 2] /= length;
  }
  const result = { normals, hollow: hollows(positions, indices, normals, count) };
  smoothedMeshes.set(mesh, result);
  return result;
}

/**
 * @param {Float32Array} positions
 * @param {Uint32Array} indices
 * @param {Float32Array} normals
 * @param {number} count vertices
 */
function hollows(positions, indices, normals, count) {
  const height = new Float32Array(count), reach = new Float32Array(count), ways = new Float32Array(count);
  let hollow = new Float32Array(count);
  for (let t = 0; t < indices.length; t += 3)
    for (let k = 0; k < 3; k++) {
      const from = indices[t + k], to = indices[t + (k === 2 ? 0 : k + 1)], a = 3 * from, b = 3 * to;
      const x = positions[b] - positions[a], y = positions[b + 1] - positions[a + 1], z = positions[b + 2] - positions[a + 2];
      height[from] += x * normals[a] + y * normals[a + 1] + z * normals[a + 2];
      reach[from] += Math.sqrt(x * x + y * y + z * z);
      ways[from]++;
    }
  for (let v = 0; v < count; v++) hollow[v] = reach[v] > 0 ? -height[v] / reach[v] : 0;
  for (let round = 0; round < 3; round++) {
    const sum = hollow.slice();
    for (let t = 0; t < indices.length; t += 3) {
      const a = indices[t], b = indices[t + 1], c = indices[t + 2];
      sum[a] += hollow[b]; sum[b] += hollow[c]; sum[c] += hollow[a];
    }
    for (let v = 0; v < count; v++) sum[v] /= 1 + ways[v];
    hollow = sum;
  }
  let square = 0;
  for (let v = 0; v < count; v++) square += hollow[v] * hollow[v];
  const spread = Math.sqrt(square / Math.max(1, count)) || 1;
  for (let v = 0; v < count; v++) hollow[v] = Math.max(-0.5, Math.min(0.12, (0.16 * hollow[v]) / spread));
  return hollow;
}

/**
 * Both ends of every edge, each edge once.
 * @param {Uint32Array} indices
 * @returns {Uint32Array}
 */
export function edgesOf(indices) {
  const keys = new Float64Array(indices.length);
  for (let t = 0; t < indices.length; t += 3)
    for (let k = 0; k < 3; k++) {
      const a = indices[t + k], b = indices[t + (k + 1) % 3];
      keys[t + k] = Math.min(a, b) * 4294967296 + Math.max(a, b);
    }
  keys.sort();
  const ends = new Uint32Array(2 * indices.length);
  let count = 0;
  for (let i = 0; i < keys.length; i++)
    if (i === 0 || keys[i] !== keys[i - 1]) {
      ends[count++] = Math.floor(keys[i] / 4294967296);
      ends[count++] = keys[i] % 4294967296;
    }
  return ends.slice(0, count);
}
