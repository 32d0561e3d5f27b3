// The programs of the mesh panes, and how they are built.

export const SURFACE_VERTEX = `#version 300 es
  layout(location = 0) in vec3 position;
  layout(location = 1) in vec3 normal;
  layout(location = 2) in float hollow;
  layout(location = 3) in float distance;
  uniform mat4 projection, view;
  out vec3 at, facing;
  out float dim, far;
  void main() {
    vec4 eye = view * vec4(position, 1.0);
    at = eye.xyz; facing = mat3(view) * normal; dim = hollow; far = distance;
    gl_Position = projection * eye;
  }`;

// Clay under a warm key light, a cool fill and a rim light, all fixed to the camera. Hollows are darkened a little. The
// inside of the surface is slate blue, so that holes are seen as holes. Where `farthest` is above zero the clay takes the
// colour of the vertex's distance instead.
export const SURFACE_FRAGMENT = `#version 300 es
  precision highp float;
  in vec3 at, facing;
  in float dim, far;
  uniform vec4 line;
  uniform float farthest;
  uniform vec3 scale[6];
  out vec4 colour;
  const vec3 KEY = normalize(vec3(-0.55, 0.65, 0.62)), FILL = normalize(vec3(0.85, 0.05, 0.45)),
             RIM = normalize(vec3(0.35, 0.55, -0.75));
  float wrapped(float c, float w) { return max(0.0, (c + w) / (1.0 + w)); }
  void main() {
    if (line.a > 0.0) { colour = vec4(line.rgb * line.a, line.a); return; }
    vec3 n = normalize(facing), eye = normalize(-at);
    vec3 base = vec3(0.60, 0.49, 0.41);
    float shine = 0.10;
    if (farthest > 0.0) {
      float place = clamp(far / farthest, 0.0, 1.0) * 5.0;
      int low = min(4, int(place));
      base = 0.8 * pow(mix(scale[low], scale[low + 1], place - float(low)), vec3(2.2));
      shine = 0.02;
    }
    if (!gl_FrontFacing) { n = -n; base = vec3(0.16, 0.22, 0.32); }
    float shade = clamp(1.0 + dim, 0.45, 1.12);
    vec3 light = mix(vec3(0.10, 0.095, 0.09), vec3(0.20, 0.22, 0.25), 0.5 + 0.5 * n.y);
    light += vec3(1.05, 0.98, 0.88) * wrapped(dot(n, KEY), 0.15);
    light += vec3(0.20, 0.25, 0.33) * wrapped(dot(n, FILL), 0.35);
    float edge = pow(1.0 - max(dot(n, eye), 0.0), 3.0);
    vec3 rim = vec3(0.55, 0.60, 0.68) * edge * wrapped(dot(n, RIM), 0.5);
    float gloss = pow(max(dot(n, normalize(KEY + eye)), 0.0), 22.0) * shine;
    vec3 linear = base * light * shade + rim * (shine > 0.05 ? 0.5 : 0.15) + gloss;
    colour = vec4(pow(linear / (1.0 + 0.18 * linear), vec3(1.0 / 2.2)), 1.0);
  }`;

export const MARK_VERTEX = `#version 300 es
  layout(location = 0) in vec3 position;
  uniform mat4 projection, view;
  uniform float size;
  void main() { gl_Position = projection * (view * vec4(position, 1.0)); gl_PointSize = size; }`;

// Lines, and points as a disc with a light ring.
export const MARK_FRAGMENT = `#version 300 es
  precision highp float;
  uniform vec4 ink;
  uniform float size;
  out vec4 colour;
  void main() {
    float alpha = ink.a;
    vec3 paint = ink.rgb;
    if (size > 0.0) {
      float r = length(gl_PointCoord - 0.5) * 2.0;
      alpha *= 1.0 - smoothstep(0.88, 1.0, r);
      paint = mix(paint, vec3(1.0), smoothstep(0.55, 0.68, r));
    }
    colour = vec4(paint * alpha, alpha);
  }`;

/**
 * @param {WebGL2RenderingContext} gl
 * @param {string} vertex
 * @param {string} fragment
 * @returns {WebGLProgram | null}
 */
export function buildProgram(gl, vertex, fragment) {
  const program = gl.createProgram();
  if (!program) return null;
  for (const [kind, text] of /** @type {[number, string][]} */ ([[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]])) {
    const shader = gl.createShader(kind);
    if (!shader) return null;
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  return gl.getProgramParameter(program, gl.LINK_STATUS) ? program : null;
}
