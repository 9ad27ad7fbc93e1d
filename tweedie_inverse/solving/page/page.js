// The page of a solve: which images there are, the samples, the colours, and the numbers of a pixel.
const get = (name) => document.getElementById(name);
const setup = JSON.parse(get("setup").textContent), state = { sample: 0, shown: null, window: null, top: null };
for (const name in setup.maps) setup.maps[name] = colours(setup.maps[name]);
const images = new Viewer(get("panels"), get("zoom"), setup), data = new Viewer(get("data-panels"), get("data-zoom"), setup);
let one = null, timer = null;

function lazily(block) {
  let values = null;
  return function () { return values || (values = decode(block)); };
}
function symmetric(limits) {
  const most = Math.max(Math.abs(limits[0]), Math.abs(limits[1])) || 1;
  return [-most, most];
}
// The root mean square over colours or the modulus of complex numbers is at most this.
function largest(values, count) {
  const most = symmetric(range(values))[1];
  return count === 2 ? most * Math.SQRT2 : most;
}
function model(block) {
  const size = block.shape.reduce((a, b) => a * b, 1), samples = lazily(block.samples);
  const units = setup.units, found = { kind: block.kind, shape: block.shape, views: [], count: block.count };
  const image = (viewer) => block.kind === "complex" && viewer.single()
    ? symmetric(state.window) : state.window;
  found.views.push({ name: "sample", title: () => `Sample ${state.sample + 1} of ${block.count}`, role: "image",
    values: samples, offset: () => state.sample * size, limits: image, units });
  const names = { mean: ["Mean", "image"], std: ["Spread (standard deviation)", "spread"],
    lower: ["5 %: lower end", "image"], upper: ["95 %: upper end", "image"],
    width: ["Width of 5 % to 95 %", "spread"], truth: ["Truth", "image"], error: ["Mean - truth", "signed"],
    "recalibrated lower": ["5 %, recalibrated", "image"], "recalibrated upper": ["95 %, recalibrated", "image"] };
  for (const name in names) {
    if (!block.images[name]) continue;
    const values = lazily(block.images[name]), [title, role] = names[name], most = {};
    const bound = () => most.of === undefined ? (most.of = largest(values(), block.shape[0])) : most.of;
    const limits = role === "image" ? image : role === "signed"
      ? (viewer) => block.kind === "complex" && !viewer.single() ? [0, bound()] : [-bound(), bound()]
      : () => [0, name === "std" ? state.top : bound() * state.top / (found.top || 1)];
    const byPart = /lower|upper/.test(name);
    found.views.push({ name, title, role, values, offset: () => 0, limits, units, bound, byPart });
  }
  const spread = found.views.find((view) => view.name === "std");
  found.top = spread ? spread.bound() : 1;
  return found;
}
function measured(block) {
  const found = { kind: block.kind, shape: block.shape, views: [] };
  const add = (name, title, role, limits, units) => found.views.push({
    name, title, role, limits: () => limits, units, values: lazily(block.images[name]), offset: () => 0 });
  add("y", block.name[0].toUpperCase() + block.name.slice(1), "data", block.window, block.logarithmic ? "log10 |y|" : "");
  const role = block.signed ? "signed" : "ratio", low = block.signed ? -block.deviations : 0;
  const high = block.signed ? block.deviations : 3, units = "noise std";
  add("of mean", "Residual of the mean", role, [low, high], units);
  add("of sample", "Residual of sample 1", role, [low, high], units);
  return found;
}
function choose(select, kind, channels) {
  const ways = kind === "colour" ? [["all", "colours"], ["0", "red"], ["1", "green"], ["2", "blue"]]
    : kind === "complex" ? [["magnitude", "magnitude"], ["phase", "phase"], ["0", "real part"], ["1", "imaginary part"]]
    : Array.from({ length: channels }, (_, k) => [String(k), `channel ${k}`]);
  select.replaceChildren(...ways.map(([value, text]) => element("option", text, { value })));
  select.closest("label").hidden = ways.length < 2;
  return ways[0][0];
}
function slices(input, viewer, block) {
  input.max = block.shape[1] - 1;
  input.value = viewer.slice = Math.min(viewer.slice || block.shape[1] >> 1, block.shape[1] - 1);
  input.closest("label").hidden = block.shape[1] < 2;
}
function use(index) {
  stop();
  one = JSON.parse(get(`measurement-${index}`).textContent);
  const made = model(one.image);
  state.sample = Math.min(state.sample, one.image.count - 1);
  state.window = one.image.window.slice();
  state.top = made.top;
  images.slice = images.slice || one.image.shape[1] >> 1;
  images.use(made);
  images.part = choose(get("channel"), one.image.kind, one.image.shape[0]);
  slices(get("slice"), images, one.image);
  get("sample").max = one.image.count;
  get("flick").hidden = one.image.count < 2;
  get("spread").hidden = !one.image.images.std;
  get("notes").replaceChildren(...one.notes.map((text) => element("li", text)));
  get("judged").textContent = one.judged;
  for (const part of document.querySelectorAll("[data-measurement]")) part.hidden = part.dataset.measurement !== String(index);
  toggles(made);
  inputs();
  get("measured").hidden = !one.data;
  get("unmeasured").hidden = Boolean(one.data);
  if (one.data) {
    data.use(measured(one.data));
    data.part = choose(get("data-channel"), one.data.kind, one.data.shape[0]);
    slices(get("data-slice"), data, one.data);
    data.show(data.model.views.map((view) => view.name));
    get("data-notes").replaceChildren(...one.data.notes.map((text) => element("li", text)));
    const sizes = one.data.sizes, said = (name) => sizes[name] === null ? "unknown" : sizes[name].toFixed(2);
    get("sizes").textContent = `Root mean square: ${said("of mean")} of the mean, ${said("of sample")} of sample 1.`;
    data.onprobe(false);
  }
}
function toggles(made) {
  const names = made.views.map((view) => view.name);
  const usual = names.includes("truth") ? ["sample", "mean", "std", "truth"] : ["sample", "mean", "std", "width"];
  state.shown = new Set([...(state.shown || usual)].filter((name) => names.includes(name)));
  get("toggles").replaceChildren(...made.views.map((view) => {
    const label = element("label"), box = element("input", null, { type: "checkbox" });
    box.checked = state.shown.has(view.name);
    box.disabled = !images.suits(view);
    if (box.disabled) label.title = "choose the real or the imaginary part to see it";
    box.addEventListener("change", () => {
      if (box.checked) state.shown.add(view.name);
      else state.shown.delete(view.name);
      images.show([...state.shown]);
    });
    const text = view.name === "sample" ? "Sample" : view.title;
    label.append(box, ` ${text}`);
    return label;
  }));
  images.show([...state.shown]);
}
function inputs() {
  get("low").value = brief(state.window[0]);
  get("high").value = brief(state.window[1]);
  get("top").value = brief(state.top);
  flick(state.sample);
}
function flick(sample) {
  const count = one.image.count;
  state.sample = (sample + count) % count;
  get("sample").value = state.sample + 1;
  get("number").textContent = `${state.sample + 1} of ${count}`;
  if (images.panels.has("sample")) images.paint(images.panels.get("sample"));
  images.draw();
  readout(false);
}
function stop() {
  if (timer) clearInterval(timer);
  timer = null;
  get("play").setAttribute("aria-pressed", "false");
  get("play").textContent = "play";
}
function play() {
  if (timer) return stop();
  timer = setInterval(() => flick(state.sample + 1), 400);
  get("play").setAttribute("aria-pressed", "true");
  get("play").textContent = "stop";
}
function view(name) { return images.model.views.find((each) => each.name === name); }
function numbers(name) { return view(name) ? images.at(view(name), ...images.probe) : null; }
function labels() {
  const kind = one.image.kind, channels = one.image.shape[0];
  return kind === "colour" ? ["red", "green", "blue"] : kind === "complex" ? ["real", "imaginary"]
    : channels === 1 ? [""] : Array.from({ length: channels }, (_, k) => `channel ${k}`);
}
// All that is known of the pixel under the cursor, in the image's own units.
function readout(spoken) {
  const [row, column] = images.probe, size = Math.max(...state.window.map(Math.abs)), block = one.image.block;
  const where = one.image.kind === "line" ? `Entry ${column * block}` : `Pixel in row ${row * block}, column ${column * block}`;
  const slice = one.image.shape[1] > 1 ? `, slice ${one.image.slices[images.slice]}` : "";
  const units = setup.units ? `, in ${setup.units}` : "";
  get("place").textContent = `${where}${slice}${units}`;
  const lines = [["mean", numbers("mean")], ["spread", numbers("std")]];
  if (numbers("lower")) lines.push(["5 % to 95 %", numbers("lower"), numbers("upper")]);
  if (numbers("recalibrated lower")) lines.push(["recalibrated", numbers("recalibrated lower"), numbers("recalibrated upper")]);
  lines.push([`sample ${state.sample + 1}`, numbers("sample")]);
  if (numbers("truth")) lines.push(["truth", numbers("truth")], ["mean - truth", numbers("error")]);
  const names = labels(), body = get("readout").tBodies[0], rows = [];
  const titles = element("tr");
  titles.append(element("th", ""), ...names.map((name) => element("th", name, { scope: "col" })));
  if (names.length > 1) rows.push(titles);
  const text = ([, first, last], c) => !first ? "unknown" : shown(first[c], size) + (last ? ` to ${shown(last[c], size)}` : "");
  for (const line of lines) {
    const made = element("tr");
    made.append(element("th", line[0], { scope: "row" }), ...names.map((_, c) => element("td", text(line, c))));
    rows.push(made);
  }
  if (one.image.kind === "complex") {
    const made = element("tr"), mean = numbers("mean");
    made.append(element("th", "of the mean", { scope: "row" }), element("td", `magnitude ${shown(Math.hypot(...mean), size)}`),
      element("td", `phase ${shown(Math.atan2(mean[1], mean[0]), 3)} rad`));
    rows.push(made);
  }
  body.replaceChildren(...rows);
  strips(names);
  if (spoken) get("spoken").textContent = `${where}${slice}: ` +
    lines.map((line) => `${line[0]} ${names.map((name, c) => `${name} ${text(line, c)}`).join(", ")}`).join("; ");
}
// Every sample's value at this pixel as a stroke, above its interval.
function strips(names) {
  const root = get("strips"), style = getComputedStyle(document.body), pick = (name) => style.getPropertyValue(name).trim();
  while (root.childElementCount > names.length) root.lastElementChild.remove();
  while (root.childElementCount < names.length) root.append(element("canvas", null, { role: "img", "aria-label": "" }));
  const [channels, depth, height, width] = one.image.shape, values = view("sample").values();
  names.forEach(function (name, c) {
    const canvas = root.children[c], density = window.devicePixelRatio || 1, marks = [], count = one.image.count;
    for (let k = 0; k < count; k++) {
      marks.push(values[(((k * channels + c) * depth + images.slice) * height + images.probe[0]) * width + images.probe[1]]);
    }
    const at = (what) => numbers(what) ? numbers(what)[c] : NaN;
    const known = [...marks, at("lower"), at("upper"), at("truth"), at("recalibrated lower"), at("recalibrated upper")];
    const full = one.image.kind === "complex" ? symmetric(one.image.window) : one.image.window;
    const finite = [...known.filter(Number.isFinite), ...full], low = Math.min(...finite), high = Math.max(...finite);
    canvas.width = canvas.clientWidth * density;
    canvas.height = canvas.clientHeight * density;
    const context = canvas.getContext("2d"), edge = 6 * density, floor = canvas.height - 18 * density;
    const x = (v) => edge + (v - low) / (high - low || 1) * (canvas.width - 2 * edge);
    const bar = (from, to, y, thick, colour) => {
      if (!Number.isFinite(from) || !Number.isFinite(to)) return;
      context.fillStyle = colour;
      context.fillRect(x(from) - thick / 2, y, Math.max(x(to) - x(from), 0) + thick, thick);
    };
    const stroke = (v, top, thick, colour) => {
      if (!Number.isFinite(v)) return;
      context.fillStyle = colour;
      context.fillRect(x(v) - thick / 2, top, thick, floor - top);
    };
    bar(low, high, floor, density, pick("--faint"));
    bar(at("lower"), at("upper"), floor - 4 * density, 4 * density, pick("--accent"));
    bar(at("recalibrated lower"), at("recalibrated upper"), floor - 10 * density, 2 * density, pick("--bad"));
    context.globalAlpha = 0.55;
    for (const v of marks) stroke(v, 14 * density, 1.5 * density, pick("--ink"));
    context.globalAlpha = 1;
    stroke(at("mean"), 6 * density, 3 * density, pick("--accent"));
    stroke(at("truth"), 6 * density, 3 * density, pick("--good"));
    if (Number.isFinite(marks[state.sample])) {
      context.fillStyle = pick("--ink");
      context.beginPath();
      context.arc(x(marks[state.sample]), 9 * density, 4 * density, 0, 7);
      context.fill();
    }
    context.fillStyle = pick("--faint");
    context.font = `${11 * density}px system-ui, sans-serif`;
    const right = brief(high);
    context.fillText(brief(low), edge, canvas.height - 4 * density);
    context.fillText(right, canvas.width - edge - context.measureText(right).width, canvas.height - 4 * density);
    if (name) context.fillText(name, canvas.width / 2 - context.measureText(name).width / 2, canvas.height - 4 * density);
    canvas.setAttribute("aria-label", `${name} values of ${count} samples from ${brief(Math.min(...marks))} to ${brief(Math.max(...marks))}`);
  });
  const parts = ["thin strokes: samples", "dot: the sample shown", "blue stroke: mean"];
  if (numbers("lower")) parts.push("blue bar: 5 % to 95 %");
  if (numbers("recalibrated lower")) parts.push("red bar: recalibrated");
  if (numbers("truth")) parts.push("green stroke: truth");
  get("legend").replaceChildren(...parts.map((text) => element("b", text)));
}
function recolour(window, top) {
  if (window[0] < window[1]) state.window = window;
  if (top > 0) state.top = top;
  inputs();
  images.render();
}
data.onprobe = function () {
  const [row, column] = data.probe, block = one.data.block;
  const said = data.model.views.map((each) => {
    const values = data.at(each, row, column);
    const size = each.role === "data" ? Math.max(...one.data.window.map(Math.abs)) : 1;
    return `${each.title.toLowerCase()} ${values.map((v) => Number.isFinite(v) ? shown(v, size) : "not observed").join(", ")}`;
  });
  const where = one.data.kind === "line" ? `Entry ${column * block}` : `Row ${row * block}, column ${column * block}`;
  get("data-readout").textContent = `${where}: ${said.join("; ")}`;
};
images.onprobe = readout;
get("previous").addEventListener("click", () => { stop(); flick(state.sample - 1); });
get("next").addEventListener("click", () => { stop(); flick(state.sample + 1); });
get("play").addEventListener("click", play);
get("sample").addEventListener("input", (event) => { stop(); flick(Number(event.target.value) - 1); });
for (const [input, select, viewer] of [["slice", "channel", images], ["data-slice", "data-channel", data]]) {
  get(input).addEventListener("input", (event) => {
    viewer.slice = Number(event.target.value);
    viewer.render();
    viewer.onprobe(false);
  });
  get(select).addEventListener("change", (event) => {
    viewer.part = event.target.value;
    if (viewer === images) toggles(images.model);
    viewer.render();
    viewer.onprobe(false);
  });
}
get("low").addEventListener("change", (event) => recolour([Number(event.target.value), state.window[1]], 0));
get("high").addEventListener("change", (event) => recolour([state.window[0], Number(event.target.value)], 0));
get("top").addEventListener("change", (event) => recolour(state.window, Number(event.target.value)));
get("whole").addEventListener("click", () => {
  recolour(one.image.kind === "complex" ? one.image.window.slice() : range(view("sample").values()), images.model.top);
});
get("middle").addEventListener("click", () => {
  const ends = range(view("sample").values(), 0.01, 0.99);
  recolour(one.image.kind === "complex" ? [0, symmetric(ends)[1]] : ends, 0);
});
get("which").addEventListener("change", (event) => use(Number(event.target.value)));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === ",") { stop(); flick(state.sample - 1); }
  else if (event.key === ".") { stop(); flick(state.sample + 1); }
  else if (event.key === "p") play();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { images.draw(); data.draw(); readout(false); });
window.addEventListener("resize", () => readout(false));
use(0);
