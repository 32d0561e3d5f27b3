// One view of the planes as a picture: silhouettes of binary planes; shaded depth and normals, depth, or normals of
// continuous ones; and how two sets of planes differ.

import { DEEP, FAR, SIDES, paintScale } from "./colour.js";
import { VIEWS, dot } from "./geometry.js";

/** @typedef {import("./binary.js").Planes} Planes */
/** @typedef {"shaded" | "depth" | "normals"} Look */

/** Differences of depth, in units of the frame, of which one has the full colour. */
const DEPTH_RANGES = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1];
/** The angle between normals, in degrees, with the darkest colour. */
export const ANGLE_RANGE = 30;

const KEY = unit([-0.55, 0.65, 0.62]), FILL = unit([0.85, 0.05, 0.45]);

/** @param {[number, number, number]} v @returns {[number, number, number]} */
function unit(v) {
  const length = Math.hypot(v[0], v[1], v[2]);
  return [v[0] / length, v[1] / length, v[2] / length];
}

/** Linear light as the mesh panes tone it. @param {number} linear */
const toned = (linear) => 255 * (linear / (1 + 0.18 * linear)) ** (1 / 2.2);

/** @param {number} low @param {number} high @param {number} value */
function ramp(low, high, value) {
  const t = Math.max(0, Math.min(1, (value - low) / (high - low)));
  return t * t * (3 - 2 * t);
}

/** The length of a pixel's normal; `Math.hypot` takes ten times as long. @param {Float32Array} v @param {number} place */
const lengthAt = (v, place) => Math.sqrt(v[place + 1] * v[place + 1] + v[place + 2] * v[place + 2] + v[place + 3] * v[place + 3]);

/**
 * How far a pixel belongs to the surface, from 0 to 1: the length of its normal, or its occupancy.
 * @param {Planes} planes @param {number} place of the pixel's first value
 */
export function presence(planes, place) {
  const { values, channels } = planes;
  if (channels === 1) return Math.max(0, Math.min(1, values[place]));
  return ramp(0.3, 0.7, lengthAt(values, place));
}

/**
 * @param {Planes} planes @param {number} view @param {Look} look @param {[number, number, number]} ink of silhouettes
 * @param {Uint8ClampedArray} out RGBA
 */
export function paintView(planes, view, look, ink, out) {
  const { size, channels, values } = planes, { right, up, forward } = VIEWS[view], start = view * size * size * channels;
  const normal = new Float32Array(3);
  for (let pixel = 0; pixel < size * size; pixel++) {
    const place = start + pixel * channels, at = 4 * pixel, alpha = presence(planes, place);
    out[at + 3] = 255 * alpha;
    if (channels === 1) {
      out[at] = ink[0]; out[at + 1] = ink[1]; out[at + 2] = ink[2];
      continue;
    }
    if (alpha === 0) continue;
    const length = lengthAt(values, place);
    for (let k = 0; k < 3; k++) normal[k] = values[place + 1 + k] / length;
    if (look === "depth") paintScale(DEEP, values[place] * 1.25 - 0.05, out, at);
    else if (look === "normals") for (let k = 0; k < 3; k++) out[at + k] = 255 * (0.5 + 0.5 * normal[k]);
    else {
      // The clay of the meshes under the same lights, a little darker with depth.
      const x = dot(right, normal), y = dot(up, normal), z = -dot(forward, normal);
      const key = Math.max(0, (KEY[0] * x + KEY[1] * y + KEY[2] * z + 0.15) / 1.15), fill = Math.max(0, (FILL[0] * x + FILL[1] * y + FILL[2] * z + 0.35) / 1.35);
      const dim = 1.08 - 0.5 * ramp(0.05, 0.75, values[place]);
      out[at] = toned(0.6 * dim * (0.15 + 1.05 * key + 0.2 * fill));
      out[at + 1] = toned(0.49 * dim * (0.155 + 0.98 * key + 0.25 * fill));
      out[at + 2] = toned(0.41 * dim * (0.165 + 0.88 * key + 0.33 * fill));
    }
  }
}

/**
 * The least range that nine in ten differences of depth stay within.
 * @param {Planes} a @param {Planes} b
 */
export function depthRange(a, b) {
  if (a.channels !== 4) return 1;
  const found = [];
  // Every seventh pixel is enough, and in no step with the rows.
  for (let place = 0; place < a.values.length; place += 28)
    if (presence(a, place) > 0.5 && presence(b, place) > 0.5) found.push(2 * Math.abs(b.values[place] - a.values[place]));
  const most = found.sort((x, y) => x - y)[Math.floor(0.9 * found.length)] || 0;
  return DEPTH_RANGES.find((range) => range >= most) || DEPTH_RANGES[DEPTH_RANGES.length - 1];
}

/**
 * What `b` has other than `a`: which silhouette reaches further, or depth (too deep counts as lacking, too near as extra) and the angle
 * between normals where both have a surface.
 * @param {Planes} a @param {Planes} b @param {number} view @param {Look} look @param {number} range difference of depth with the full colour
 * @param {Uint8ClampedArray} out RGBA
 */
export function paintDifference(a, b, view, look, range, out) {
  const { size, channels } = a, start = view * size * size * channels;
  for (let pixel = 0; pixel < size * size; pixel++) {
    const place = start + pixel * channels, at = 4 * pixel, here = presence(a, place), there = presence(b, place);
    const both = Math.min(here, there), off = there - here;
    let side = off < 0 ? 0 : 1, share = Math.abs(off), ground = 0.14 * both;
    if (channels === 4 && both > 0.5) {
      if (look === "normals") {
        paintScale(FAR, angleBetween(a, b, place) / ANGLE_RANGE, out, at);
        out[at + 3] = 255 * both;
        continue;
      }
      const further = 2 * (b.values[place] - a.values[place]);
      side = further > 0 ? 0 : 1;
      share = Math.max(share, Math.min(1, Math.abs(further) / range));
    }
    const alpha = share + (1 - share) * ground;
    for (let k = 0; k < 3; k++) out[at + k] = alpha ? (SIDES[side][k] * share + 128 * (1 - share) * ground) / alpha : 0;
    out[at + 3] = 255 * alpha;
  }
}

/** Degrees between the normals of a pixel. @param {Planes} a @param {Planes} b @param {number} place */
export function angleBetween(a, b, place) {
  let product = 0, one = 0, two = 0;
  for (let k = 1; k < 4; k++) {
    const p = a.values[place + k], q = b.values[place + k];
    product += p * q;
    one += p * p;
    two += q * q;
  }
  return (180 / Math.PI) * Math.acos(Math.max(-1, Math.min(1, product / (Math.sqrt(one * two) || 1))));
}
