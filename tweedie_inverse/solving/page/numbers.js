// Numbers of the page: what `numbers.py` wrote, read again, and shown with as many digits as they have.
"use strict";
function decode(block) {
  const text = atob(block.data), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  if (block.bits === 32) return new Float32Array(bytes.buffer);
  const values = new Float32Array(bytes.length / 2);
  for (let i = 0; i < values.length; i++) {
    const code = bytes[2 * i] + 256 * bytes[2 * i + 1];
    values[i] = code === 65535 ? NaN : block.low + block.step * code;
  }
  return values;
}
function shown(value, scale) {
  if (!Number.isFinite(value)) return "unknown";
  const size = Math.abs(scale) > 0 && Number.isFinite(scale) ? Math.abs(scale) : 1;
  if (size >= 1e6 || size < 1e-4) return value.toExponential(3);
  const digits = Math.max(0, Math.min(8, 4 - Math.ceil(Math.log10(size) - 1e-9)));
  return value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1");
}
function brief(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "unknown";
}
function range(values, low, high) {
  // Smallest and largest, or these quantiles of at most 20000 of them.
  const every = Math.max(1, Math.floor(values.length / 20000)), found = [];
  let least = Infinity, most = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const v = values[i];
    if (!Number.isFinite(v)) continue;
    if (v < least) least = v;
    if (v > most) most = v;
    if (low !== undefined && i % every === 0) found.push(v);
  }
  if (least > most) return [0, 1];
  if (low === undefined || found.length < 3) return [least, most];
  found.sort(function (a, b) { return a - b; });
  return [low, high].map(function (q) { return found[Math.round(q * (found.length - 1))]; });
}
function colours(text) {
  const bytes = atob(text);
  return Uint8Array.from(bytes, function (letter) { return letter.charCodeAt(0); });
}
function element(kind, text, attributes) {
  const made = document.createElement(kind);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const name in attributes || {}) made.setAttribute(name, attributes[name]);
  return made;
}
