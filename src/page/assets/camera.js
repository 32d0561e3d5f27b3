// One camera for both mesh panes, turned by pointer, wheel, touch and keys. Its matrices are written in place: a drag
// makes no garbage.

import { calm } from "./dom.js";
import { VIEWS } from "./geometry.js";

const START = { yaw: -0.45, pitch: 0.12, zoom: 1, x: 0, y: 0 };
const FIELD = 0.5, RADIUS = 1.22, STEEP = Math.PI / 2;

export class Camera {
  constructor() {
    this.view = new Float32Array(16);
    this.projection = new Float32Array(16);
    this.yaw = START.yaw;
    this.pitch = START.pitch;
    this.zoom = START.zoom;
    this.x = START.x;
    this.y = START.y;
    this.spinYaw = 0;
    this.spinPitch = 0;
    /** Where a turn to a view ends, while one is going on. @type {{ yaw: number, pitch: number, left: number } | null} */
    this.goal = null;
  }

  reset() {
    Object.assign(this, START, { spinYaw: 0, spinPitch: 0, goal: null });
  }

  /** @param {number} yaw @param {number} pitch */
  turn(yaw, pitch) {
    this.goal = null;
    this.yaw += yaw;
    this.pitch = Math.max(-STEEP, Math.min(STEEP, this.pitch + pitch));
  }

  /** @param {number} factor */
  scale(factor) { this.zoom = Math.max(0.3, Math.min(30, this.zoom * factor)); }

  /** By fractions of a pane's height. @param {number} x @param {number} y */
  move(x, y) {
    this.x += (x * 2 * RADIUS) / this.zoom;
    this.y += (y * 2 * RADIUS) / this.zoom;
  }

  /** Turns to where a view of the planes looks from, the short way round. @param {number} index */
  lookFrom(index) {
    const { forward } = VIEWS[index], steep = forward[1] !== 0;
    const pitch = steep ? -forward[1] * STEEP : 0;
    let yaw = steep ? 0 : Math.atan2(forward[0], -forward[2]);
    yaw += 2 * Math.PI * Math.round((this.yaw - yaw) / (2 * Math.PI));
    this.spinYaw = this.spinPitch = this.x = this.y = 0;
    this.goal = { yaw, pitch, left: calm() ? 0 : 0.45 };
  }

  /**
   * Moves on by `passed` seconds. Says whether there is more to come.
   * @param {number} passed
   * @param {boolean} held whether a pointer holds the mesh
   */
  advance(passed, held) {
    if (this.goal) {
      const share = this.goal.left > passed ? Math.min(1, (3 * passed) / this.goal.left) : 1;
      this.yaw += (this.goal.yaw - this.yaw) * share;
      this.pitch += (this.goal.pitch - this.pitch) * share;
      this.goal.left -= passed;
      if (share === 1) this.goal = null;
      return this.goal !== null;
    }
    if (held) return false;
    this.yaw += this.spinYaw * passed;
    this.pitch = Math.max(-STEEP, Math.min(STEEP, this.pitch + this.spinPitch * passed));
    const kept = Math.exp(-5 * passed);
    this.spinYaw *= kept;
    this.spinPitch *= kept;
    return Math.abs(this.spinYaw) + Math.abs(this.spinPitch) > 0.01;
  }

  distance() { return (0.84 * RADIUS) / Math.sin(FIELD / 2) / this.zoom; }

  /** Writes both matrices for a pane of this shape. @param {number} aspect width over height */
  update(aspect) {
    const distance = this.distance(), p = this.projection, m = this.view;
    const tall = (1 / Math.tan(FIELD / 2)) * Math.min(1, aspect * 1.15);
    const far = distance + 4 * RADIUS, near = Math.max(distance - 2 * RADIUS, distance / 50);
    p[0] = tall / aspect;
    p[5] = tall;
    p[10] = (far + near) / (near - far);
    p[11] = -1;
    p[14] = (2 * far * near) / (near - far);
    const sy = Math.sin(this.yaw), cy = Math.cos(this.yaw), sp = Math.sin(this.pitch), cp = Math.cos(this.pitch);
    m[0] = cy; m[1] = sp * sy; m[2] = -cp * sy;
    m[4] = 0; m[5] = cp; m[6] = sp;
    m[8] = sy; m[9] = -sp * cy; m[10] = cp * cy;
    m[12] = this.x; m[13] = this.y; m[14] = -distance;
    m[15] = 1;
  }
}

/**
 * Lets a canvas turn the camera.
 * @param {HTMLCanvasElement} canvas
 * @param {Camera} camera
 * @param {Map<number, { x: number, y: number, time: number, move: boolean }>} held pointers that are down, on any canvas
 * @param {() => void} redraw
 */
export function steer(canvas, camera, held, redraw) {
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, { x: event.clientX, y: event.clientY, time: event.timeStamp, move: event.shiftKey || event.button > 0 });
    camera.spinYaw = camera.spinPitch = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const pointer = held.get(event.pointerId);
    if (!pointer) return;
    const dx = event.clientX - pointer.x, dy = event.clientY - pointer.y, tall = canvas.clientHeight || 1;
    /** @type {{ x: number, y: number } | null} */
    let other = null;
    for (const [id, place] of held) if (id !== event.pointerId) other = place;
    if (other) {
      const now = Math.hypot(event.clientX - other.x, event.clientY - other.y), before = Math.hypot(pointer.x - other.x, pointer.y - other.y);
      camera.scale(now / Math.max(8, before));
      camera.move(dx / tall / 2, -dy / tall / 2);
    } else if (pointer.move) camera.move(dx / tall, -dy / tall);
    else {
      const yaw = (4.5 * dx) / tall, pitch = (4.5 * dy) / tall, passed = Math.max(4, event.timeStamp - pointer.time) / 1000;
      camera.turn(yaw, pitch);
      camera.spinYaw = 0.6 * camera.spinYaw + (0.4 * yaw) / passed;
      camera.spinPitch = 0.6 * camera.spinPitch + (0.4 * pitch) / passed;
    }
    pointer.x = event.clientX;
    pointer.y = event.clientY;
    pointer.time = event.timeStamp;
    redraw();
  });
  /** @param {PointerEvent} event */
  const end = (event) => {
    const pointer = held.get(event.pointerId);
    held.delete(event.pointerId);
    // A pointer that rested before it left gives no swing.
    if (calm() || (pointer && event.timeStamp - pointer.time > 80)) camera.spinYaw = camera.spinPitch = 0;
    redraw();
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaY * [1, 20, 400][event.deltaMode];
    camera.scale(Math.exp(-Math.max(-120, Math.min(120, pixels)) * 0.002));
    redraw();
  }, { passive: false });
  canvas.addEventListener("dblclick", () => { camera.reset(); redraw(); });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    switch (event.key) {
      case "ArrowLeft": camera.turn(-0.12, 0); break;
      case "ArrowRight": camera.turn(0.12, 0); break;
      case "ArrowUp": camera.turn(0, -0.12); break;
      case "ArrowDown": camera.turn(0, 0.12); break;
      case "+": case "=": camera.scale(1.15); break;
      case "-": camera.scale(1 / 1.15); break;
      case "0": camera.reset(); break;
      default: return;
    }
    event.preventDefault();
    redraw();
  });
}
