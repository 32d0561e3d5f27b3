// The two binary formats of the server: planes (HXPL) and meshes (HXMS), little-endian.

/**
 * Six planes: `[6, size, size, channels]`, of depth and normal (4 channels) or occupancy (1).
 * @typedef {{ size: number, channels: number, values: Float32Array }} Planes
 */
/**
 * A mesh in the normalised frame; `distances` are those of the vertices to the mesh that was trained on.
 * @typedef {{ positions: Float32Array, indices: Uint32Array, distances: Float32Array | null }} Mesh
 */

/** @type {Float32Array | null} */
let halves = null;

/** The value of every half-precision number by its bits. */
function halfTable() {
  if (halves) return halves;
  halves = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 0) halves[bits] = sign * fraction * 2 ** -24;
    else if (exponent === 31) halves[bits] = fraction ? NaN : sign * Infinity;
    else halves[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return halves;
}

/**
 * @param {ArrayBuffer} bytes
 * @param {string} magic
 * @param {number} header bytes before the data
 */
function opened(bytes, magic, header) {
  const view = new DataView(bytes);
  const name = bytes.byteLength < header ? "" : String.fromCharCode(...new Uint8Array(bytes, 0, 4));
  if (name !== magic) throw new Error(`the answer is not ${magic} but ${bytes.byteLength} bytes of something else`);
  if (view.getUint32(4, true) !== 1) throw new Error(`this page reads version 1 of ${magic}, not ${view.getUint32(4, true)}; reload it`);
  return view;
}

/**
 * @param {ArrayBuffer} bytes
 * @returns {Planes}
 */
export function decodePlanes(bytes) {
  const view = opened(bytes, "HXPL", 16);
  const size = view.getUint32(8, true), channels = view.getUint32(12, true), count = 6 * size * size * channels;
  if ((channels !== 1 && channels !== 4) || bytes.byteLength !== 16 + 2 * count)
    throw new Error(`planes of ${size} pixels with ${channels} channels do not fill ${bytes.byteLength} bytes`);
  const table = halfTable(), packed = new Uint16Array(bytes, 16, count), values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = table[packed[i]];
  return { size, channels, values };
}

/**
 * The arrays are views of `bytes`, without a copy.
 * @param {ArrayBuffer} bytes
 * @returns {Mesh}
 */
export function decodeMesh(bytes) {
  const view = opened(bytes, "HXMS", 20);
  const vertices = view.getUint32(8, true), triangles = view.getUint32(12, true), near = (view.getUint32(16, true) & 1) === 1;
  const corners = 20 + 12 * vertices, end = corners + 12 * triangles;
  if (bytes.byteLength !== end + (near ? 4 * vertices : 0))
    throw new Error(`a mesh of ${vertices} vertices and ${triangles} triangles does not fill ${bytes.byteLength} bytes`);
  return {
    positions: new Float32Array(bytes, 20, 3 * vertices),
    indices: new Uint32Array(bytes, corners, 3 * triangles),
    distances: near ? new Float32Array(bytes, end, vertices) : null,
  };
}
