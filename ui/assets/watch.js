// The third view: what changes, as it changes.
import { fill, h, icon, put, set } from "./dom.js";
import { compacted, denied, record, stream } from "./api.js";
import { clock, encode, hex, kubernetes, number, rate, show, size, text, toBase64, prefixEnd } from "./bytes.js";

const rowsMax = 300; // events shown, and events kept while the list stands still
const drawEvery = 100; // milliseconds between additions to the list
const retry = 2000; // milliseconds
const valueMax = 20000; // characters of a value in the list

export function watch(go) {
  const input = h("input", { type: "text", placeholder: "prefix; empty for all keys", spellcheck: "false", autocapitalize: "off", autocomplete: "off", "aria-label": "Prefix to watch" });
  const exact = h("input", { type: "checkbox" });
  const start = h("button.primary", { type: "submit" });
  const pause = h("button", { type: "button", onclick: () => hold(!paused) });
  const clear = h("button", { type: "button", onclick: empty }, "Clear");
  const status = h("p.status", { role: "status" });
  const list = h("ol.events", { "aria-label": "Events, newest first" });
  const hint = h("div.empty.big", icon("watch"), h("p", "Changes appear here as they are made."), h("p.dim", "Give a prefix, or leave it empty for all keys, and start."));
  const root = h("div.watch", h("h1.hidden", "Watch"), h("section.card", { "aria-label": "Watch" },
    h("form.bar", { onsubmit: submit }, input, h("label.check", exact, "one key"), start, pause, clear), status, hint, list));

  let abort = null, paused = false, waiting = [], dropped = 0, seen = 0, next = 0, mode = "off", words = "", recent = [], timer = 0, what = null;
  render();

  function submit(e) {
    e.preventDefault();
    if (abort) return stop();
    const bytes = encode(input.value);
    go("watch", exact.checked ? { key: bytes } : { prefix: bytes }, true);
  }

  function begin(target) {
    stop();
    what = target;
    next = 0;
    seen = 0;
    paused = false;
    empty();
    abort = new AbortController();
    run(abort.signal);
  }

  function stop() {
    abort?.abort();
    abort = null;
    mode = "off";
    words = "";
    render();
  }

  // run keeps a watch going: after a break it goes on behind the last event.
  async function run(signal) {
    const key = what.key ?? (what.prefix || "\0"), end = what.key !== undefined ? "" : prefixEnd(what.prefix);
    while (!signal.aborted) {
      mode = "connecting";
      render();
      try {
        const create = { key: toBase64(key), prev_kv: true, start_revision: next ? String(next) : undefined };
        if (end) create.range_end = toBase64(end);
        await stream("watch", { create_request: create }, signal, take);
        words = "The server ended the watch.";
      } catch (err) {
        if (signal.aborted) return;
        words = err.message;
        if (denied(err) || err.final) return stopWith(err.message);
        if (compacted(err)) next = 0;
      }
      mode = "broken";
      render();
      await new Promise((done) => setTimeout(done, retry));
    }
  }

  function stopWith(message) {
    stop();
    words = message;
    render();
  }

  function take(result) {
    if (result.canceled) {
      const lost = Number(result.compact_revision ?? 0);
      if (lost) {
        next = lost;
        throw new Error(`Events before revision ${number(lost)} are compacted and were missed.`);
      }
      throw Object.assign(new Error(result.cancel_reason || "The server refused the watch."), { final: true });
    }
    mode = "live";
    words = "";
    const at = Date.now();
    for (const e of result.events ?? []) {
      const kv = record(e.kv);
      next = kv.modified + 1;
      seen++;
      recent.push(at);
      waiting.push({ kind: e.type === "DELETE" ? "delete" : kv.version === 1 ? "create" : "put", kv, before: e.prev_kv ? record(e.prev_kv) : null, at });
    }
    if (waiting.length > rowsMax) dropped += waiting.splice(0, waiting.length - rowsMax).length;
    timer ||= setTimeout(draw, drawEvery);
  }

  function draw() {
    timer = 0;
    if (!paused && waiting.length) {
      if (dropped) list.prepend(h("li.gap", `${number(dropped)} events came too fast to show`));
      for (const e of waiting.splice(0)) list.prepend(row(e));
      dropped = 0;
      while (list.children.length > rowsMax) list.lastChild.remove();
    }
    render();
  }

  function row(e) {
    const body = h("div.change", { hidden: true });
    const line = h("button.event", { type: "button", "aria-expanded": "false", onclick: () => {
      if (!body.childNodes.length) body.append(detail(e));
      body.hidden = !body.hidden;
      set(line, { "aria-expanded": String(!body.hidden) });
    } }, h("time", clock(e.at)), h(`span.kind.${e.kind}`, e.kind), h("code.key", show(e.kv.key)), h("span.short", e.kind === "delete" ? "" : short(e.kv.value)), h("span.dim.at", number(e.kv.modified)));
    return h("li", line, body);
  }

  const short = (value) => {
    const object = kubernetes(value);
    if (object) return `${object.kind} ${object.version} (${size(value.length)})`;
    const plain = text(value.slice(0, 400));
    return plain === null ? `binary, ${size(value.length)}` : plain.slice(0, 200);
  };

  const shown = (value) => text(value)?.slice(0, valueMax) ?? hex(value, 0, 512);

  const detail = (e) => h("div", h("dl.meta", [["Revision", number(e.kv.modified)], ["Version", number(e.kv.version)], ["Size", size(e.kv.value.length)]].slice(0, e.kind === "delete" ? 1 : 3).map(([k, v]) => h("div", h("dt", k), h("dd", v)))),
    e.kind === "delete" ? null : h("pre", shown(e.kv.value)),
    e.before ? h("div.before", h("h3", "Before"), h("pre", shown(e.before.value))) : null,
    h("button.link", { type: "button", onclick: () => go("keys", { key: e.kv.key }) }, "Open the key"));

  function empty() {
    list.replaceChildren();
    waiting = [];
    dropped = 0;
    seen = 0;
    recent = [];
    render();
  }

  function hold(on) {
    if (!abort) return;
    paused = on;
    draw();
  }

  function render() {
    const now = Date.now();
    recent = recent.filter((t) => t > now - 5000);
    fill(start, abort ? "Stop" : "Start");
    set(start, { class: abort ? "" : "primary" });
    fill(pause, icon(paused ? "play" : "pause"), paused ? "Go on" : "Pause");
    pause.disabled = !abort;
    hint.hidden = list.children.length > 0;
    put(hint.querySelector("p"), abort ? "Waiting for a change…" : "Changes appear here as they are made.");
    hint.querySelector("p.dim").hidden = !!abort;
    const where = what && (what.key !== undefined ? show(what.key) : what.prefix ? `keys under ${show(what.prefix)}` : "all keys");
    const said = { off: words, connecting: `Connecting to watch ${where}…`, broken: `${words} Trying again.`, live: `Watching ${where}` }[mode];
    fill(status, mode === "off" && !words ? null : h(`i.state.${{ live: paused ? "unknown" : "good", broken: "critical", off: "critical", connecting: "unknown" }[mode]}`), h("span", said),
      abort ? h("span.dim", paused ? `paused, ${number(waiting.length + dropped)} waiting${dropped ? `, of which ${number(dropped)} will not be shown` : ""}` : `${number(seen)} event${seen === 1 ? "" : "s"}, ${rate(recent.length / 5)}/s`) : null);
    set(root, { "data-mode": mode });
  }
  setInterval(() => abort && root.isConnected && render(), 1000);

  function enter({ key, prefix }) {
    if (key === undefined && prefix === undefined) return;
    if (abort && what.key === key && what.prefix === prefix) return;
    exact.checked = key !== undefined;
    input.value = show(key ?? prefix);
    begin({ key, prefix });
  }

  return { root, enter, login: stop, search: () => input.focus(), pause: () => hold(!paused), title: "Watch" };
}
