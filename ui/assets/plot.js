// Plots over time, as SVG: lines with a faint area, few labels, a crosshair for the mouse, a finger or the arrow keys.
import { clock } from "./bytes.js";
import { h, put, set, svg } from "./dom.js";

const pad = { left: 52, right: 10, top: 10, bottom: 22 };
const least = 30_000; // milliseconds on the horizontal axis, at least
const gap = 7000; // readings further apart are not connected

// plot makes one. series: [{ name, cls, value(reading) }], whose value null breaks the line; format makes words of a value;
// floor is the least top of the scale, and base 1024 for bytes.
export function plot({ title, unit, series, format, floor = 1, base = 10 }) {
  const picture = svg("svg", { class: "plot", "aria-hidden": "true" });
  const tip = h("div.tip", { hidden: true });
  const latest = series.map(() => h("b", "–"));
  const legend = h("div.legend", series.map((s, i) => h("span", h(`i.${s.cls}`), h("span", s.name), latest[i])));
  const figure = h("figure.card.chart", { tabindex: "0", role: "img", "data-plot": title },
    h("figcaption", h("h3", title), h("span.unit", unit)), h("div.area", picture, tip), legend);
  let readings = [], at = -1, width = 0, height = 0, scale = null;

  new ResizeObserver(([entry]) => {
    width = Math.round(entry.contentRect.width);
    height = Math.round(entry.contentRect.height);
    draw();
  }).observe(picture.parentNode);

  function update(fresh) {
    if (at >= 0 && readings[at]) at = fresh.indexOf(readings[at]);
    readings = fresh;
    const last = readings.at(-1);
    series.forEach((s, i) => put(latest[i], last && s.value(last) !== null ? format(s.value(last)) : "–"));
    set(figure, { "aria-label": `${title}, ${unit}: ${series.map((s, i) => `${s.name} ${latest[i].textContent}`).join(", ")}. Arrow keys read single points.` });
    draw();
  }

  function draw() {
    if (width < 40 || height < 40) return;
    set(picture, { viewBox: `0 0 ${width} ${height}`, width, height });
    const now = readings.at(-1)?.at ?? Date.now();
    const span = Math.max(least, now - (readings[0]?.at ?? now));
    let top = floor;
    for (const r of readings) for (const s of series) top = Math.max(top, (s.value(r) ?? 0) * 1.02);
    top = nice(top, base);
    const x = (t) => pad.left + (width - pad.left - pad.right) * (1 - (now - t) / span);
    const y = (v) => height - pad.bottom - (height - pad.top - pad.bottom) * (v / top);
    scale = { x, y };
    const parts = [];
    for (const part of [0, 0.5, 1]) {
      parts.push(svg("line", { class: part ? "grid" : "axis", x1: pad.left, x2: width - pad.right, y1: y(top * part), y2: y(top * part) }));
      parts.push(svg("text", { class: "tick", x: pad.left - 8, y: y(top * part) + 4, "text-anchor": "end" }, part ? format(top * part) : "0"));
    }
    parts.push(svg("text", { class: "tick", x: pad.left, y: height - 5 }, `−${span >= 119_000 ? `${Math.round(span / 60_000)} min` : `${Math.round(span / 1000)} s`}`));
    parts.push(svg("text", { class: "tick", x: width - pad.right, y: height - 5, "text-anchor": "end" }, "now"));
    for (const s of series) parts.push(...lines(s, x, y));
    if (readings.length < 2) parts.push(svg("text", { class: "none", x: (width + pad.left) / 2, y: height / 2, "text-anchor": "middle" }, "collecting…"));
    picture.replaceChildren(...parts);
    mark();
  }

  function lines(s, x, y) {
    const runs = [];
    let run = null, last = 0;
    for (const r of readings) {
      const v = s.value(r);
      if (v === null || v === undefined) {
        run = null;
        continue;
      }
      if (!run || r.at - last > gap) runs.push((run = []));
      run.push([x(r.at), y(v)]);
      last = r.at;
    }
    const out = [];
    for (const run of runs) {
      const line = run.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
      if (run.length === 1) out.push(svg("circle", { class: `dot ${s.cls}`, cx: run[0][0], cy: run[0][1], r: 1.6 }));
      else {
        if (!s.thin) out.push(svg("path", { class: `fill ${s.cls}`, d: `${line}L${run.at(-1)[0].toFixed(1)} ${y(0)}L${run[0][0].toFixed(1)} ${y(0)}Z` }));
        out.push(svg("path", { class: `line ${s.cls}${s.thin ? " thin" : ""}`, d: line }));
      }
    }
    return out;
  }

  // mark draws the crosshair at the reading that was chosen.
  function mark() {
    picture.querySelectorAll(".cross").forEach((e) => e.remove());
    const r = readings[at];
    tip.hidden = !r;
    if (!r || !scale) return;
    const x = scale.x(r.at);
    picture.append(svg("line", { class: "cross", x1: x, x2: x, y1: pad.top, y2: height - pad.bottom }));
    for (const s of series) {
      const v = s.value(r);
      if (v !== null) picture.append(svg("circle", { class: `cross dot ${s.cls}`, cx: x, cy: scale.y(v), r: 3.5 }));
    }
    tip.replaceChildren(h("time", clock(r.at)),
      ...series.map((s) => h("div", h(`i.${s.cls}`), h("span", s.name), h("b", s.value(r) === null ? "–" : format(s.value(r))))));
    tip.style.left = `${Math.max(0, Math.min(x + 12 > width - 150 ? x - 158 : x + 12, width - 146))}px`;
  }

  function choose(clientX) {
    const box = picture.getBoundingClientRect();
    let best = -1, near = Infinity;
    readings.forEach((r, i) => {
      const d = Math.abs(scale.x(r.at) - (clientX - box.left));
      if (d < near) [near, best] = [d, i];
    });
    at = best;
    mark();
  }
  const leave = () => {
    at = -1;
    mark();
  };
  picture.addEventListener("pointermove", (e) => scale && choose(e.clientX));
  picture.addEventListener("pointerleave", leave);
  figure.addEventListener("blur", leave);
  figure.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[e.key];
    if (step === undefined || e.altKey || e.ctrlKey || e.metaKey) return;
    e.preventDefault();
    at = Math.max(0, Math.min(readings.length - 1, (at < 0 ? readings.length : at) + step));
    mark();
    set(figure, { "aria-label": `${title}: ${tip.innerText.replaceAll("\n", " ")}` });
  });
  return { figure, update };
}

// nice is the next round number that is at least n, of which the half is round too. Bytes are counted in powers of 1024.
function nice(n, base) {
  let unit = base === 1024 ? 1024 ** Math.floor(Math.log(n) / Math.log(1024)) : 1;
  unit *= 10 ** Math.floor(Math.log10(n / unit));
  for (const m of [1, 2, 4, 6, 8]) if (m * unit >= n) return m * unit;
  return 10 * unit;
}
