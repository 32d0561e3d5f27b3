// What stands beside the six views: the values of the pixel under the pointer, and what the picture and its colours mean.

import { DEEP, FAR, paintLegend } from "./colour.js";
import { counted, fixed, make, plain } from "./dom.js";
import { VIEWS, firstHit, pointAt } from "./geometry.js";
import { ANGLE_RANGE, angleBetween, presence } from "./pixels.js";

/** @typedef {import("./binary.js").Planes} Planes */
/** @typedef {import("./binary.js").Mesh} Mesh */
/** @typedef {import("./geometry.js").Pixel} Pixel */
/** @typedef {import("./mesh.js").Mark} Mark */
/** @typedef {import("./views.js").Net} Net */

const AXES = ["x", "y", "z"];

/**
 * The depth of the surface on the ray of a pixel: what continuous planes say, else where the ray meets the mesh.
 * @param {Planes | null} planes @param {Mesh | null} mesh @param {Pixel} pixel
 * @returns {number | null}
 */
export function depthAt(planes, mesh, pixel) {
  if (!planes) return null;
  const place = ((pixel.view * planes.size + pixel.y) * planes.size + pixel.x) * planes.channels;
  if (planes.channels === 4) return presence(planes, place) >= 0.5 ? planes.values[place] : null;
  return mesh ? firstHit(mesh, pixel, planes.size) : null;
}

/**
 * @param {Pixel} pixel @param {number} size @param {number | null} depth
 * @returns {Mark}
 */
export function markOf(pixel, size, depth) {
  return { from: pointAt(pixel, size, 0), to: pointAt(pixel, size, 1), point: depth === null ? null : pointAt(pixel, size, depth) };
}

/**
 * A row of the values of a pixel.
 * @param {string} name @param {Planes | null} planes @param {Pixel} pixel
 */
function valuesOf(name, planes, pixel) {
  const cells = [];
  if (!planes) cells.push(make("td", { colspan: 4 }, "\u2013"));
  else {
    const place = ((pixel.view * planes.size + pixel.y) * planes.size + pixel.x) * planes.channels, v = planes.values;
    if (planes.channels === 1) cells.push(make("td", {}, fixed(v[place])));
    else if (presence(planes, place) < 0.5) cells.push(make("td", { colspan: 4 }, "background"));
    else for (let k = 0; k < 4; k++) cells.push(make("td", {}, fixed(v[place + k], k ? 2 : 3)));
  }
  return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
}

/**
 * @param {HTMLElement} root @param {Net} net
 * @param {{ input: number | null, decoded: number | null }} depths of the ray's first points on both meshes
 * @param {number} scale units of the frame a unit of the input's own
 */
export function showPixel(root, net, depths, scale) {
  const { pixel, input, decoded } = net, planes = decoded || input;
  if (!pixel || !planes) {
    root.replaceChildren(make("p", { class: "quiet" }, "Point at a pixel: its values, its ray and the point it sees appear here and on both meshes. Double-click a view to look from there."));
    return;
  }
  const { forward, right, up, name } = VIEWS[pixel.view], axis = forward.findIndex((c) => c !== 0), at = pointAt(pixel, planes.size, 0);
  const across = AXES.map((letter, k) => (right[k] || up[k] ? `${letter} ${fixed(at[k]).trim()}` : "")).filter(Boolean).join(", ");
  const names = planes.channels === 1 ? ["occupancy"] : ["depth", "normal x", "y", "z"];
  root.replaceChildren(
    make("p", {}, make("b", {}, name), ` column ${pixel.x}, row ${pixel.y}`),
    make("table", {}, make("thead", {}, make("tr", {}, make("th", {}), ...names.map((one) => make("th", { scope: "col" }, one)))),
      make("tbody", {}, valuesOf("input", input, pixel), valuesOf("decoded", decoded, pixel))),
    make("p", {}, make("span", { class: "quiet" }, "ray "), `${across}, along ${forward[axis] < 0 ? "\u2212" : "+"}${AXES[axis]}`),
    make("p", {}, make("span", { class: "quiet" }, "apart "), apart(net, depths, scale)));
}

/**
 * How far the surfaces are from each other on the ray of the pixel.
 * @param {Net} net @param {{ input: number | null, decoded: number | null }} depths @param {number} scale
 */
function apart({ pixel, input, decoded }, depths, scale) {
  if (!pixel || !input || !decoded || input.channels !== decoded.channels || input.size !== decoded.size) return "\u2013";
  if (depths.input === null || depths.decoded === null)
    return depths.input === depths.decoded ? "both miss" : depths.input === null ? "the input misses" : "the decoded mesh misses";
  const off = 2 * (depths.decoded - depths.input), place = ((pixel.view * input.size + pixel.y) * input.size + pixel.x) * input.channels;
  const angle = input.channels === 4 ? `, ${angleBetween(input, decoded, place).toFixed(1)}\u00b0` : "";
  return `${fixed(off, 4).trim()} units${scale === 1 ? "" : ` (${plain(off / scale)} in the file)`}${angle}`;
}

/**
 * @param {HTMLElement} root @param {Net} net @param {number[] | null} latent its shape
 */
export function showLegend(root, net, latent) {
  const planes = net.decoded || net.input;
  root.replaceChildren();
  if (!planes) return;
  const values = 6 * planes.size * planes.size * planes.channels, binary = planes.channels === 1;
  if (net.shown === "difference") {
    if (!binary && net.look === "normals") root.append(scaleRow(FAR, "0\u00b0", `${ANGLE_RANGE}\u00b0 between normals`));
    else {
      root.append(make("p", { class: "key" }, make("i", { class: "swatch lacking" }), binary ? "only in the input" : "only in the input, or decoded too deep"));
      root.append(make("p", { class: "key" }, make("i", { class: "swatch extra" }), binary ? "only decoded" : "only decoded, or decoded too near"));
      if (!binary) root.append(make("p", { class: "quiet" }, `full colour at ${net.range} units of depth`));
    }
  } else if (!binary && net.look === "depth") root.append(scaleRow(DEEP, "near", "far"));
  root.append(make("p", { class: "quiet" }, `6 \u00d7 ${planes.size} \u00d7 ${planes.size} \u00d7 ${planes.channels}`, make("br"), `${counted(values)} values`));
  if (latent) {
    const floats = latent.reduce((a, b) => a * b, 1);
    root.append(make("p", { class: "quiet" }, `latent ${latent.join(" \u00d7 ")}`, make("br"), `${counted(floats)} floats: ${Number((values / floats).toPrecision(3))} values a float`));
  }
}

/** @param {import("./colour.js").Colour[]} scale @param {string} low @param {string} high */
function scaleRow(scale, low, high) {
  const canvas = make("canvas", { width: 120, height: 8, class: "scale", "aria-hidden": "true" });
  paintLegend(canvas, scale);
  return make("div", { class: "scale-row" }, canvas, make("div", {}, make("span", {}, low), make("span", {}, high)));
}
