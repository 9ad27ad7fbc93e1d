// Linked panels: one image each, one zoom, one place of the probe.
//
// A model has {kind, shape: [channels, slices, height, width], views}; a view has {name, title, values(),
// offset(), role, limits(), units}.  Roles: "image" and "data" are grey or colour, "spread" begins at 0,
// "signed" is as far below 0 as above, "ratio" is near 1.
const MAPS = { image: "grey", data: "grey", spread: "magma", ratio: "viridis", signed: "balance", phase: "phase" };

class Viewer {
  constructor(root, zoom, setup) {
    this.root = root;
    this.maps = setup.maps;
    this.panels = new Map();
    this.zoom = 1;
    this.centre = [0.5, 0.5];
    this.probe = null;
    this.slice = 0;
    this.part = "0";
    this.pointers = new Map();
    this.onprobe = function () {};
    const names = [["−", "zoom out", 1 / 1.5], ["+", "zoom in", 1.5], ["1:1", "whole image", 0]];
    for (const [text, label, factor] of names) {
      const button = element("button", text, { type: "button", "aria-label": label, title: label });
      button.addEventListener("click", () => this.zoomBy(factor));
      zoom.append(button);
    }
    if (window.ResizeObserver) new ResizeObserver(() => this.draw()).observe(root);
    else window.addEventListener("resize", () => this.draw());
  }
  use(model) {
    this.model = model;
    const [, slices, height, width] = model.shape;
    this.slice = Math.min(this.slice, slices - 1);
    if (this.probe) this.probe = [Math.min(this.probe[0], height - 1), Math.min(this.probe[1], width - 1)];
    else this.probe = [height >> 1, width >> 1];
    this.root.replaceChildren();
    this.panels.clear();
  }
  // The ends of an interval of real and imaginary parts are no ends of a magnitude.
  suits(view) { return this.model.kind !== "complex" || this.single() || !view.byPart; }
  show(wanted) {
    const fitting = (name) => this.suits(this.model.views.find((view) => view.name === name));
    const names = wanted.filter(fitting);
    for (const [name, panel] of this.panels) if (!names.includes(name)) {
      panel.figure.remove();
      this.panels.delete(name);
    }
    for (const view of this.model.views) {
      if (!names.includes(view.name)) continue;
      if (!this.panels.has(view.name)) this.panels.set(view.name, this.panel(view));
      this.root.append(this.panels.get(view.name).figure);
    }
    this.render();
  }
  panel(view) {
    const figure = element("figure"), caption = element("figcaption", view.title);
    const canvas = element("canvas", null, { class: "image", tabindex: "0", role: "img" });
    const scale = element("canvas", null, { class: "scale", "aria-hidden": "true", width: "256", height: "1" });
    const ends = element("div", null, { class: "ends" });
    figure.append(caption, canvas, scale, ends);
    this.listen(canvas);
    return { view, figure, caption, canvas, scale, ends, picture: document.createElement("canvas") };
  }
  // The numbers of a view at one pixel, one for each channel.
  at(view, row, column) {
    const [channels, slices, height, width] = this.model.shape, values = view.values(), found = [];
    for (let c = 0; c < channels; c++) {
      found.push(values[view.offset() + ((c * slices + this.slice) * height + row) * width + column]);
    }
    return found;
  }
  role(view) {
    if (this.model.kind === "complex" && this.part === "phase" && view.role === "image") return "phase";
    if (this.model.kind === "complex" && view.role === "signed" && !this.single()) return "spread";
    return view.role;
  }
  single() { return this.part === "0" || this.part === "1"; }
  // What is drawn of the channels of a pixel, as the chooser of channels says.
  way(view) {
    const kind = this.model.kind;
    if (kind === "colour" && this.part === "all") {
      if (view.role === "image" || view.role === "data") return "colours";
      return view.role === "signed" ? "average" : "root mean square";
    }
    if (kind === "complex" && !this.single()) return this.role(view) === "phase" ? "phase" : "modulus";
    return "one";
  }
  limits(view) {
    if (this.role(view) === "phase") return [-Math.PI, Math.PI];
    return view.limits(this);
  }
  render() {
    for (const panel of this.panels.values()) this.paint(panel);
    this.draw();
  }
  paint(panel) {
    const { view, picture } = panel, [, , height, width] = this.model.shape;
    const [low, high] = this.limits(view), role = this.role(view), units = role === "phase" ? "rad" : view.units;
    panel.caption.textContent = typeof view.title === "function" ? view.title() : view.title;
    panel.ends.replaceChildren(element("span", brief(low)), element("span", units), element("span", brief(high)));
    panel.canvas.setAttribute("aria-label",
      `${panel.caption.textContent}, colours from ${brief(low)} to ${brief(high)} ${units}; arrow keys move the probe`);
    panel.ends.hidden = panel.scale.hidden = this.model.kind === "line";
    if (this.model.kind === "line") return;
    const map = this.maps[MAPS[role]], span = high - low || 1;
    const line = panel.scale.getContext("2d"), strip = line.createImageData(256, 1);
    for (let i = 0; i < 256; i++) {
      for (let c = 0; c < 3; c++) strip.data[4 * i + c] = map[3 * i + c];
      strip.data[4 * i + 3] = 255;
    }
    line.putImageData(strip, 0, 0);
    picture.width = width;
    picture.height = height;
    const context = picture.getContext("2d"), image = context.createImageData(width, height), pixels = image.data;
    const values = view.values(), [channels, slices] = this.model.shape, way = this.way(view), area = height * width;
    const first = view.offset() + this.slice * area, next = slices * area; // to the same pixel of another channel
    const only = way === "one" && Number(this.part) < channels ? first + Number(this.part) * next : first;
    for (let i = 0, p = 0; i < area; i++, p += 4) {
      if (way === "colours") {
        const sum = values[first + i] + values[first + next + i] + values[first + 2 * next + i];
        for (let c = 0; c < 3; c++) pixels[p + c] = 255 * (values[first + c * next + i] - low) / span; // clamped
        pixels[p + 3] = sum - sum === 0 ? 255 : 0;
        continue;
      }
      let value = values[only + i];
      if (way === "phase") value = Math.atan2(values[first + next + i], value);
      else if (way === "modulus") value = Math.hypot(value, values[first + next + i]);
      else if (way === "average") value = (value + values[first + next + i] + values[first + 2 * next + i]) / 3;
      else if (way === "root mean square") {
        value = Math.hypot(value, values[first + next + i], values[first + 2 * next + i]) / Math.sqrt(3);
      }
      if (value - value !== 0) continue; // not finite: a hole
      const level = 3 * Math.max(0, Math.min(255, Math.round(255 * (value - low) / span)));
      pixels[p] = map[level];
      pixels[p + 1] = map[level + 1];
      pixels[p + 2] = map[level + 2];
      pixels[p + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }
  // The part of the image that is seen: left, top, width and height, in pixels of the image.
  seen() {
    const [, , height, width] = this.model.shape, w = width / this.zoom;
    const h = this.model.kind === "line" ? height : height / this.zoom;
    const left = Math.max(0, Math.min(width - w, this.centre[0] * width - w / 2));
    const top = Math.max(0, Math.min(height - h, this.centre[1] * height - h / 2));
    return [left, top, w, h];
  }
  draw() {
    if (!this.model) return;
    const [, , height, width] = this.model.shape, [left, top, w, h] = this.seen();
    const density = window.devicePixelRatio || 1, [row, column] = this.probe;
    for (const panel of this.panels.values()) {
      const { canvas } = panel, wide = Math.round(canvas.clientWidth * density);
      if (!wide) continue;
      const shape = this.model.kind === "line" ? 0.6 : Math.max(0.3, Math.min(2, height / width));
      canvas.width = wide;
      canvas.height = Math.round(wide * shape);
      canvas.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
      const context = canvas.getContext("2d");
      if (this.model.kind === "line") { this.curve(panel, context, density); continue; }
      hatch(context, canvas, density);
      context.imageSmoothingEnabled = false;
      context.drawImage(panel.picture, left, top, w, h, 0, 0, canvas.width, canvas.height);
      const x = (column + 0.5 - left) / w * canvas.width, y = (row + 0.5 - top) / h * canvas.height;
      cross(context, x, y, canvas.width / w, canvas.height / h, density);
    }
  }
  curve(panel, context, density) {
    const { canvas, view } = panel, [left, , w] = this.seen(), [low, high] = this.limits(view);
    const style = getComputedStyle(document.body), margin = 4 * density;
    const x = (k) => (k + 0.5 - left) / w * canvas.width;
    const y = (v) => canvas.height - margin - (v - low) / (high - low || 1) * (canvas.height - 2 * margin);
    context.strokeStyle = style.color;
    context.lineWidth = 1.5 * density;
    context.beginPath();
    let pen = false;
    for (let k = Math.floor(left); k < Math.ceil(left + w); k++) {
      const value = this.at(view, 0, k)[0];
      if (!Number.isFinite(value)) { pen = false; continue; }
      if (pen) context.lineTo(x(k), y(value));
      else context.moveTo(x(k), y(value));
      pen = true;
    }
    context.stroke();
    context.fillStyle = style.color;
    context.font = `${11 * density}px system-ui, sans-serif`;
    context.fillText(`${brief(high)} ${view.units}`, margin, 12 * density);
    context.fillText(brief(low), margin, canvas.height - margin);
    context.lineWidth = density;
    context.setLineDash([4 * density, 3 * density]);
    context.beginPath();
    context.moveTo(x(this.probe[1]), 0);
    context.lineTo(x(this.probe[1]), canvas.height);
    context.stroke();
  }
  place(canvas, event) {
    const box = canvas.getBoundingClientRect(), [left, top, w, h] = this.seen();
    return [(event.clientX - box.left) / box.width * w + left, (event.clientY - box.top) / box.height * h + top];
  }
  move(row, column, spoken) {
    const [, , height, width] = this.model.shape;
    this.probe = [Math.max(0, Math.min(height - 1, row)), Math.max(0, Math.min(width - 1, column))];
    const [left, top, w, h] = this.seen();
    if (spoken && (this.probe[1] < left || this.probe[1] >= left + w || this.probe[0] < top || this.probe[0] >= top + h)) {
      this.centre = [(this.probe[1] + 0.5) / width, (this.probe[0] + 0.5) / height];
    }
    this.draw();
    this.onprobe(spoken);
  }
  zoomBy(factor, around) {
    const [, , height, width] = this.model.shape, [x, y] = around || [this.probe[1] + 0.5, this.probe[0] + 0.5];
    const [left, top, w, h] = this.seen(), before = this.zoom;
    this.zoom = factor ? Math.max(1, Math.min(Math.max(8, width / 8), this.zoom * factor)) : 1;
    const change = before / this.zoom; // what is under the pointer stays there
    this.centre = [(x + (left + w / 2 - x) * change) / width, (y + (top + h / 2 - y) * change) / height];
    this.draw();
  }
  pan(dx, dy) { // in shares of the canvas
    const [, , height, width] = this.model.shape, [left, top, w, h] = this.seen();
    this.centre = [(left + w / 2 - dx * w) / width, (top + h / 2 - dy * h) / height];
    this.draw();
  }
  listen(canvas) {
    const pointers = this.pointers;
    const probe = (event) => {
      const [x, y] = this.place(canvas, event);
      this.move(Math.floor(y), Math.floor(x), false);
    };
    canvas.addEventListener("pointerdown", (event) => {
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
      if (event.pointerType !== "mouse" || this.zoom === 1) probe(event);
      else canvas.setPointerCapture(event.pointerId);
    });
    for (const kind of ["pointerup", "pointercancel", "pointerleave"]) {
      canvas.addEventListener(kind, (event) => pointers.delete(event.pointerId));
    }
    canvas.addEventListener("pointermove", (event) => {
      const old = pointers.get(event.pointerId), box = canvas.getBoundingClientRect();
      if (!old) return probe(event);
      const now = [event.clientX, event.clientY];
      if (pointers.size === 2) {
        const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
        const length = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]) || 1;
        this.zoomBy(length(now) / length(old), this.place(canvas, event));
      } else if (this.zoom > 1) {
        this.pan((now[0] - old[0]) / box.width, (now[1] - old[1]) / box.height);
      } else probe(event);
      pointers.set(event.pointerId, now);
    });
    canvas.addEventListener("dblclick", (event) => this.zoomBy(2, this.place(canvas, event)));
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return; // pinching a touchpad, too; a plain wheel scrolls the page
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 200), this.place(canvas, event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const far = event.shiftKey ? 10 : 1, [row, column] = this.probe;
      const ways = { ArrowUp: [-far, 0], ArrowDown: [far, 0], ArrowLeft: [0, -far], ArrowRight: [0, far] };
      if (ways[event.key]) this.move(row + ways[event.key][0], column + ways[event.key][1], true);
      else if (event.key === "+" || event.key === "=") this.zoomBy(1.5);
      else if (event.key === "-") this.zoomBy(1 / 1.5);
      else if (event.key === "0") this.zoomBy(0);
      else return;
      event.preventDefault();
    });
  }
}
function hatch(context, canvas, density) {
  context.strokeStyle = "#888";
  context.lineWidth = density;
  context.beginPath();
  for (let x = -canvas.height; x < canvas.width; x += 8 * density) {
    context.moveTo(x, canvas.height);
    context.lineTo(x + canvas.height, 0);
  }
  context.stroke();
}
function cross(context, x, y, wide, high, density) {
  const reach = 9 * density, w = Math.max(wide, 3 * density) / 2, h = Math.max(high, 3 * density) / 2;
  for (const [colour, width] of [["#000", 3], ["#ffd400", 1.4]]) {
    context.strokeStyle = colour;
    context.lineWidth = width * density;
    context.beginPath();
    context.rect(x - w, y - h, 2 * w, 2 * h);
    context.moveTo(x - w - reach, y);
    context.lineTo(x - w, y);
    context.moveTo(x + w, y);
    context.lineTo(x + w + reach, y);
    context.moveTo(x, y - h - reach);
    context.lineTo(x, y - h);
    context.moveTo(x, y + h);
    context.lineTo(x, y + h + reach);
    context.stroke();
  }
}
