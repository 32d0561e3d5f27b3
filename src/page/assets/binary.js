// The binary formats of the server, planes (HXPL) and meshes (HXMS), and the small one of meshes inside a file (HXMC); all
// little-endian.

/**
 * Six planes: `[6, size, size, channels]`, of depth and normal (4 channels) or occupancy (1).
 * @typedef {{ size: number, channels: number, values: Float32Array }} Planes
 */
/**
 * A mesh in the normalised frame; `distances` are those of the vertices to the mesh that was trained on. A file holds large
 * meshes thinned: `triangles` are those that they had.
 * @typedef {{ positions: Float32Array, indices: Uint32Array, triangles: number, distances: Float32Array | null }} Mesh
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

/** @param {ArrayBuffer} bytes @returns {Mesh} */
export function decodeMesh(bytes) {
  return bytes.byteLength > 3 && new Uint8Array(bytes, 3, 1)[0] === 67 /* C */ ? unpackMesh(bytes) : viewMesh(bytes);
}

/**
 * The packed mesh of a file: after the header for each axis the low bytes, then the high bytes of zigzag differences of
 * 16-bit coordinates; then indices, each as a variable-length number: how far below the next unused one it is (0: that one).
 * Distances follow as the low bytes, then the high bytes of half-precision numbers.
 * @param {ArrayBuffer} buffer
 * @returns {Mesh}
 */
function unpackMesh(buffer) {
  const view = opened(buffer, "HXMC", 40), bytes = new Uint8Array(buffer);
  const count = view.getUint32(8, true), triangles = view.getUint32(12, true), near = (view.getUint32(16, true) & 1) === 1;
  const step = view.getFloat32(36, true), positions = new Float32Array(3 * count), indices = new Uint32Array(3 * triangles);
  for (let axis = 0; axis < 3; axis++) {
    const from = view.getFloat32(24 + 4 * axis, true), low = 40 + 2 * axis * count, high = low + count;
    for (let i = 0, value = 0; i < count; i++) {
      const zigzag = bytes[low + i] | (bytes[high + i] << 8);
      value = (value + ((zigzag >> 1) ^ -(zigzag & 1))) & 65535;
      positions[3 * i + axis] = from + step * value;
    }
  }
  let place = 40 + 6 * count;
  for (let i = 0, next = 0; i < indices.length; i++) {
    let below = 0, shift = 0, byte;
    do { byte = bytes[place++]; below |= (byte & 127) << shift; shift += 7; } while (byte & 128);
    indices[i] = next - below;
    if (below === 0) next++;
  }
  if (bytes.length !== place + (near ? 2 * count : 0)) throw new Error(`a packed mesh of ${count} vertices and ${triangles} triangles does not fill ${bytes.length} bytes`);
  const table = halfTable();
  return { positions, indices, triangles: view.getUint32(20, true), distances: near ? Float32Array.from({ length: count }, (_, i) => table[bytes[place + i] | (bytes[place + count + i] << 8)]) : null };
}

/**
 * The arrays are views of `bytes`, without a copy.
 * @param {ArrayBuffer} bytes
 * @returns {Mesh}
 */
function viewMesh(bytes) {
  const view = opened(bytes, "HXMS", 20);
  const vertices = view.getUint32(8, true), triangles = view.getUint32(12, true), near = (view.getUint32(16, true) & 1) === 1;
  const corners = 20 + 12 * vertices, end = corners + 12 * triangles;
  if (bytes.byteLength !== end + (near ? 4 * vertices : 0))
    throw new Error(`a mesh of ${vertices} vertices and ${triangles} triangles does not fill ${bytes.byteLength} bytes`);
  return {
    positions: new Float32Array(bytes, 20, 3 * vertices),
    indices: new Uint32Array(bytes, corners, 3 * triangles),
    triangles,
    distances: near ? new Float32Array(bytes, end, vertices) : null,
  };
}
