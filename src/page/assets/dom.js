// Small helpers for elements and for numbers as people read them.

/**
 * The element of the page with this id, which the page's own HTML is known to have.
 * @template {Element} T
 * @param {string} id
 * @param {{ new (): T }} kind
 * @returns {T}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} with the id ${id}`);
  return found;
}

/**
 * A new element with attributes and children. Attributes that are false or null are left out.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number | boolean | null>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  element.append(...children);
  return element;
}

/**
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number>} [attributes]
 * @param {string} [text]
 * @returns {SVGElementTagNameMap[K]}
 */
export function makeSvg(tag, attributes = {}, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  if (text !== undefined) element.textContent = text;
  return element;
}

/**
 * Fills a `select` and keeps what was chosen where it is still there.
 * @param {HTMLSelectElement} select
 * @param {[string, string][]} options value and text
 */
export function fillSelect(select, options) {
  const kept = select.value;
  const same = select.options.length === options.length
    && options.every(([value, text], i) => select.options[i].value === value && select.options[i].text === text);
  if (same) return;
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([value]) => value === kept)) select.value = kept;
}

/** @param {number} value */
export const counted = (value) => value.toLocaleString("en-GB");

/**
 * Three digits that count, in powers of ten where plain digits would be long.
 * @param {number | null | undefined} value
 */
export function plain(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "n/a";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size < 1e-3 || size >= 1e5 ? value.toExponential(2).replace("e+", "e") : size >= 1000 ? counted(Math.round(value)) : value.toPrecision(3);
  return text.replace("-", "\u2212");
}

/**
 * A coordinate: a fixed number of digits, so that columns of them stay still while they change.
 * @param {number} value
 * @param {number} [digits]
 */
export function fixed(value, digits = 3) {
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? "\u2212" : "\u2007") + text;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 90) return `${plain(seconds)} s`;
  return seconds < 5400 ? `${plain(seconds / 60)} min` : `${plain(seconds / 3600)} h`;
}

/**
 * Runs one call at a time. Of the calls that come meanwhile only the last one is kept: a slider that is dragged asks
 * for where it is, not for everywhere it was.
 * @template {unknown[]} A
 * @param {(...values: A) => Promise<void>} work
 * @param {number} [pause] milliseconds to wait before a call, for further ones
 * @returns {(...values: A) => void}
 */
export function latestOnly(work, pause = 0) {
  /** @type {A | null} */
  let waiting = null;
  let busy = false;
  const next = async () => {
    busy = true;
    while (waiting) {
      if (pause) await new Promise((done) => setTimeout(done, pause));
      const values = waiting;
      waiting = null;
      await work(...values);
    }
    busy = false;
  };
  return (...values) => {
    waiting = values;
    if (!busy) void next();
  };
}

/** Whether the reader's system asks for less motion. */
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
