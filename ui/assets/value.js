// One key: its value as text, JSON or bytes, and how it came to be what it is.
import { copy, fill, h, icon, set } from "./dom.js";
import { compacted, post, records } from "./api.js";
import { hex, json, kubernetes, number, show, size, text, toBase64 } from "./bytes.js";
import { diff } from "./diff.js";

const textMax = 256 << 10; // characters shown at once
const hexMax = 8 << 10; // bytes shown at once
const back = 20; // older revisions read at once

// read is a key at a revision, 0 for now; null when it is not there. Without a leader the answer is this member's own.
async function read(key, revision) {
  const body = { key: toBase64(key) };
  if (revision) body.revision = String(revision);
  let local = false, answer;
  try {
    answer = await post("kv/range", body);
  } catch (err) {
    if (err.code !== 14 && err.code !== 4 && err.status !== 503) throw err;
    answer = await post("kv/range", { ...body, serializable: true });
    local = true;
  }
  return { record: records(answer)[0] ?? null, local, now: Number(answer.header?.revision ?? 0) };
}

export function valueView(pane, go, close) {
  let key, turn = 0;
  empty();

  function empty() {
    fill(pane, h("div.empty.big", icon("key"), h("p", "Choose a key to see its value and its history."), h("p.dim", h("kbd", "↑"), " ", h("kbd", "↓"), " move, ", h("kbd", "→"), " opens, ", h("kbd", "/"), " jumps to a prefix or key")));
  }

  async function exists(wanted) {
    try {
      return (await read(wanted, 0)).record !== null;
    } catch {
      return true; // the view says what is wrong
    }
  }

  async function open(wanted) {
    const mine = ++turn;
    if (wanted === undefined) {
      key = undefined;
      return empty();
    }
    if (wanted !== key) fill(pane, head(wanted), h("p.empty", "Reading…"));
    key = wanted;
    try {
      const got = await read(wanted, 0);
      if (mine === turn) draw(wanted, got);
    } catch (err) {
      if (mine === turn) pane.replaceChildren(head(wanted), h("p.empty.bad", `Cannot be read: ${err.message}`));
    }
  }

  function head(key, ...more) {
    return h("header.keyhead", h("button.plain.back", { type: "button", "aria-label": "Back to the tree", onclick: () => { close(); go("keys", {}); } }, icon("back")),
      h("h2", { title: show(key) }, show(key)), h("span.tools", h("button.plain", { type: "button", title: "Copy the key", "aria-label": "Copy the key", onclick: () => copy(show(key), "the key") }, icon("copy")),
        h("button.plain", { type: "button", title: "Watch this key", "aria-label": "Watch this key", onclick: () => go("watch", { key }) }, icon("watch")),
        h("button.plain", { type: "button", title: "Read again", "aria-label": "Read again", onclick: () => open(key) }, icon("refresh")), ...more));
  }

  function draw(key, { record, local, now }) {
    const parts = [head(key)];
    if (local) parts.push(h("p.banner", "There is no leader to ask: this is what this member has."));
    if (!record) parts.push(h("div.empty.big", icon("note"), h("p", `There is no such key at revision ${number(now)}.`)));
    else {
      const lease = h("dd", record.lease === "0" ? "none" : BigInt(record.lease).toString(16));
      parts.push(h("dl.meta", meta("Size", size(record.value.length)), meta("Version", number(record.version)), meta("Modified at", number(record.modified)), meta("Created at", number(record.created)), h("div", h("dt", "Lease"), lease)),
        body(record.value), history(record));
      if (record.lease !== "0") remaining(record.lease, lease);
    }
    pane.replaceChildren(...parts);
  }

  return { open, exists };
}

const meta = (name, value) => h("div", h("dt", name), h("dd", value));

async function remaining(lease, into) {
  try {
    const answer = await post("lease/timetolive", { ID: lease });
    into.append(Number(answer.TTL ?? -1) > 0 ? `, ${answer.TTL} s left of ${answer.grantedTTL}` : ", ended");
  } catch (err) {
    set(into, { title: err.message });
  }
}

// forms are the ways in which a value can be shown, the best first.
function forms(value) {
  const plain = text(value), out = [];
  const tokens = plain !== null && plain.length <= textMax ? json(plain) : null;
  if (tokens) out.push(["JSON", () => h("pre", { tabindex: "0" }, tokens.map(([cls, t]) => (cls ? h(`span.j-${cls}`, t) : t)))]);
  if (plain !== null) out.push(["Text", () => h("pre", { tabindex: "0" }, plain.slice(0, textMax), plain.length > textMax ? h("span.dim", `\n… ${size(value.length - textMax)} more`) : null)]);
  out.push(["Hex", () => dump(value)]);
  return out;
}

function dump(value) {
  const pre = h("pre.hex", { tabindex: "0" }, hex(value, 0, hexMax));
  if (value.length <= hexMax) return pre;
  let shown = hexMax;
  const button = h("button.link", { type: "button", onclick: () => {
    pre.append("\n" + hex(value, shown, shown + hexMax));
    shown += hexMax;
    if (shown >= value.length) button.remove();
  } }, "Show more");
  return h("div", pre, button);
}

function body(value) {
  if (value === "") return h("p.empty.none", "The value is empty.");
  const all = forms(value), object = kubernetes(value), out = h("div.body", { role: "tabpanel" });
  const tabs = all.map(([name, make]) => h("button.tab", { type: "button", role: "tab", onclick: () => pick(name, make) }, name));
  function pick(name, make) {
    tabs.forEach((t) => set(t, { "aria-selected": String(t.textContent === name), tabindex: t.textContent === name ? "0" : "-1" }));
    fill(out, make());
  }
  const strip = h("div.tabs", h("div", { role: "tablist", "aria-label": "Form of the value" }, tabs),
    object ? h("span.badge", { title: "a Kubernetes object in protobuf form: kubectl and quorate get show it decoded" }, `Kubernetes protobuf${object.kind ? `: ${object.kind} ${object.version}` : ""}`) : all.length === 1 ? h("span.badge", "binary") : null,
    text(value) !== null ? h("button.plain", { type: "button", title: "Copy the value", "aria-label": "Copy the value", onclick: () => copy(text(value), "the value") }, icon("copy")) : null);
  strip.addEventListener("keydown", (e) => {
    const at = tabs.indexOf(e.target), to = at + { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (at < 0 || !tabs[to]) return;
    tabs[to].focus();
    tabs[to].click();
  });
  pick(...all[0]);
  return h("div.holder", strip, out);
}

// history walks back from a record: the revision before its own has the one before it, until the key was created or the
// revisions are compacted.
function history(newest) {
  const items = h("ol.history"), end = h("p.dim.end"), button = h("button", { type: "button" }, "Older revisions");
  let next = newest, previousItem = null;
  const item = (r) => {
    const change = h("div.change", { hidden: r !== newest || r.version === 1 });
    const line = h("button.rev", { type: "button", "aria-expanded": String(!change.hidden), onclick: () => {
      change.hidden = !change.hidden;
      set(line, { "aria-expanded": String(!change.hidden) });
    } }, icon("chevron"), h("b", `revision ${number(r.modified)}`), h("span.dim", `version ${number(r.version)}, ${size(r.value.length)}`));
    items.append(h("li", line, change));
    return { record: r, change };
  };
  const older = (r) => {
    if (previousItem) fill(previousItem.change, changes(previousItem.record.value, r?.value ?? null));
    previousItem = r ? item(r) : null;
  };
  const done = (why) => {
    if (previousItem) fill(previousItem.change, changes(previousItem.record.value, null));
    button.hidden = true;
    end.textContent = why;
  };
  async function walk() {
    button.disabled = true;
    try {
      for (let n = 0; n < back; n++) {
        if (next.version === 1) return done(`Created at revision ${number(next.created)}.`);
        const got = (await read(next.key, next.modified - 1)).record;
        if (!got) return done("Nothing before.");
        next = got;
        older(got);
      }
    } catch (err) {
      return done(compacted(err) ? "Older revisions are compacted." : `Cannot be read: ${err.message}`);
    } finally {
      button.disabled = false;
    }
  }
  older(newest);
  button.addEventListener("click", walk);
  walk();
  return h("section.past", { "aria-label": "History" }, h("h3", "History"), items, end, button);
}

const lines = (value) => {
  const plain = text(value);
  if (plain === null) return null;
  const tokens = plain.length <= textMax ? json(plain) : null;
  return (tokens ? tokens.map(([, t]) => t).join("") : plain.slice(0, textMax)).split("\n");
};

// changes shows what a value has that the one before had not; before is null for none.
function changes(value, before) {
  const now = lines(value), old = before === null ? [] : lines(before);
  if (!now || !old) return h("pre", hex(value, 0, 256) + (value.length > 256 ? `\n… ${size(value.length)} in all` : ""));
  const rows = diff(old, now);
  if (!rows) return h("pre", now.slice(0, 60).join("\n"));
  if (before !== null && rows.every(([sign]) => sign === " ")) return h("p.dim", "Written again with the same value.");
  return h("pre.diff", rows.map(([sign, line]) => h(`span.${{ "+": "add", "-": "cut", " ": "same", "…": "skip" }[sign]}`, sign === "…" ? `  ⋯ ${line}\n` : `${sign} ${line}\n`)));
}

