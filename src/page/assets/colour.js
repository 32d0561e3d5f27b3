// Colours for values. All scales run evenly from light to dark or meet in a neutral middle, so that people who do not tell
// red from green read them too.

/** @typedef {[number, number, number]} Colour sRGB, 0 to 255 */

/**
 * Distances and angles, from none (pale) to far (dark): stops of "lajolla" (Crameri, Scientific colour maps).
 * @type {Colour[]}
 */
export const FAR = [[255, 251, 214], [249, 224, 136], [236, 168, 85], [214, 100, 77], [133, 60, 58], [52, 26, 22]];

/**
 * Depth, from near (light) to far (dark): stops of "cividis" (Nuñez, Anderton and Renslow, 2018).
 * @type {Colour[]}
 */
export const DEEP = [[254, 232, 96], [201, 181, 106], [148, 143, 120], [102, 105, 112], [51, 68, 107], [0, 34, 78]];

/** What the input has and the decoded planes lack, and the other way round (Okabe and Ito). @type {[Colour, Colour]} */
export const SIDES = [[0, 114, 178], [213, 94, 0]];

/**
 * Writes the colour of `share`, from 0 to 1 along a scale, at `place`.
 * @param {Colour[]} scale
 * @param {number} share
 * @param {Uint8ClampedArray} out
 * @param {number} place
 */
export function paintScale(scale, share, out, place) {
  const at = Math.max(0, Math.min(1, share)) * (scale.length - 1), low = Math.min(scale.length - 2, Math.floor(at)), part = at - low;
  for (let k = 0; k < 3; k++) out[place + k] = scale[low][k] + (scale[low + 1][k] - scale[low][k]) * part;
}

/**
 * Fills a canvas with a scale from left to right.
 * @param {HTMLCanvasElement} canvas
 * @param {Colour[]} scale
 */
export function paintLegend(canvas, scale) {
  const pen = canvas.getContext("2d");
  if (!pen) return;
  const picture = pen.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < canvas.width * canvas.height; i++) {
    paintScale(scale, (i % canvas.width) / (canvas.width - 1), picture.data, 4 * i);
    picture.data[4 * i + 3] = 255;
  }
  pen.putImageData(picture, 0, 0);
}
