// The second view: the keys as a tree, and the value of one.
import { fill, h, icon, set } from "./dom.js";
import { denied, session } from "./api.js";
import { encode, number, prefixEnd, show } from "./bytes.js";
import { list, readable } from "./tree.js";
import { valueView } from "./value.js";

const depthMax = 64; // folders that are opened by themselves
const rowsMax = 4000; // rows of the tree at most: a page that holds more does not get any faster

export function keys(go) {
  let delimiter = "/", roots = [], rows = [], focused = null, chosen = null, notice = "", generation = 0;
  const input = h("input", { type: "text", id: "prefix", placeholder: "/ prefix or key", spellcheck: "false", autocapitalize: "off", autocomplete: "off", "aria-label": "Prefix or key" });
  const select = h("select", { "aria-label": "What separates folders", title: "What separates folders" }, [["/", "/"], [":", ":"], [".", "."], ["", "none"]].map(([v, t]) => h("option", { value: v }, t)));
  const tree = h("ul.tree", { role: "tree", "aria-label": "Keys" });
  const status = h("p.status", { role: "status" });
  const pane = h("div.value");
  const root = h("div.keys", h("h1.hidden", "Keys"),
    h("section.card.side", { "aria-label": "Tree of keys" },
      h("form.bar", { onsubmit: find }, input, select, h("button.plain", { type: "button", title: "Read the tree again", "aria-label": "Read the tree again", onclick: reload }, icon("refresh"))),
      tree, status),
    h("section.card.detail", { "aria-label": "Value" }, pane));
  select.addEventListener("change", () => {
    delimiter = select.value;
    reload();
  });
  const values = valueView(pane, go, () => {
    chosen = null;
    root.removeAttribute("data-key");
    mark();
    (focused ?? rows[0])?.row?.focus();
  });

  const node = (child, parent) => ({ ...child, parent, level: parent ? parent.level + 1 : 1, open: false, children: null, cursor: null, left: 0, busy: null, error: "", row: null });

  function find(e) {
    e.preventDefault();
    go("keys", { key: encode(input.value), exact: true });
  }

  async function reload() {
    generation++;
    const top = node({ folder: true, key: input.dataset.at ?? "", count: 0 }, null);
    top.level = 0;
    top.end = prefixEnd(top.key);
    notice = "";
    roots = [top];
    focused = null;
    await more(top);
    if (top.denied && session.user) await permitted();
    render();
  }

  // permitted makes roots of the ranges that the user may read, when he may not read all.
  async function permitted() {
    try {
      const ranges = await readable(session.user);
      roots = ranges.map((r) => (r.end === "" ? node({ folder: false, key: r.key, count: 1 }, null) : { ...node({ folder: true, key: r.key, count: null, label: label(r) }, null), end: r.end, from: r.key }));
      notice = ranges.length ? `What ${session.user} may read.` : `${session.user} may not read any key.`;
    } catch (err) {
      notice = err.message;
    }
  }

  const label = (r) => (r.end === prefixEnd(r.key) && r.end !== "\0" ? show(r.key) + "…" : r.end === "\0" ? `from ${show(r.key) || "the first key"}` : `${show(r.key)} to ${show(r.end)}`);

  // more reads the next page of a folder's children, once at a time.
  function more(n) {
    if (!n.busy) {
      n.busy = load(n);
      render();
    }
    return n.busy;
  }

  async function load(n) {
    const mine = generation;
    n.error = "";
    try {
      const start = n.cursor ?? (n.from ?? (n.key || "\0"));
      const got = await list(n.from === undefined ? n.key : "", n.end ?? prefixEnd(n.key), start, delimiter);
      if (mine !== generation) return;
      n.children = (n.children ?? []).concat(got.children.map((c) => node(c, n)));
      n.cursor = got.cursor;
      n.left = got.left;
      const sum = n.children.reduce((a, c) => a + c.count, 0) + got.left;
      n.count = sum;
    } catch (err) {
      n.error = err.message;
      n.denied = denied(err);
    }
    n.busy = null;
    n.open = true;
    render();
    const only = n.children?.length === 1 && n.children[0];
    if (only && only.folder && !only.open && !n.cursor) await more(only); // nobody wants to open a chain link by link
  }

  // reveal opens the folders that a key is in, as far as their first pages show them.
  async function reveal(key) {
    let n = roots.find((r) => key.startsWith(r.key));
    for (let depth = 0; n && depth < depthMax; depth++) {
      if (!n.children) await more(n);
      if (chosen !== key) return; // somebody went on
      n.open = true;
      const child = n.children?.find((c) => (c.folder ? key.startsWith(c.key) : c.key === key));
      if (child && !child.folder) focused = child;
      n = child?.folder ? child : null;
    }
    render();
    if (focused?.key === key) focused.row?.scrollIntoView({ block: "nearest" });
  }

  function toggle(n) {
    if (n.extra) return more(n.parent);
    if (!n.folder) return go("keys", { key: n.key });
    if (n.open) n.open = false;
    else if (n.children && !n.error) n.open = true;
    else return more(n);
    render();
  }

  function render() {
    rows = [];
    const walk = (n) => {
      if (n.level > 0) rows.push(n);
      if (n.level > 0 && !n.open) return;
      (n.children ?? []).forEach(walk);
      if (n.cursor) rows.push((n.extra_ ??= { extra: true, parent: n, level: n.level + 1, key: "", row: null }));
    };
    roots.forEach(walk);
    const cut = rows.length > rowsMax;
    if (cut) rows.length = rowsMax;
    if (focused && !rows.includes(focused)) focused = focused.parent && rows.includes(focused.parent) ? focused.parent : null;
    const inside = tree.contains(document.activeElement);
    rows.forEach((n, i) => {
      const row = draw(n);
      if (tree.children[i] !== row) tree.insertBefore(row, tree.children[i] ?? null); // a row that is moved loses the focus
    });
    while (tree.children.length > rows.length) tree.lastChild.remove();
    if (inside && !tree.contains(document.activeElement)) focus(focused ?? rows[0]);
    const top = roots[0]?.level === 0 ? roots[0] : null;
    fill(status, h("span", top?.busy ? "Reading…" : notice || (top?.error && `Cannot be listed: ${top.error}`) || (top && !rows.length ? "There are no keys here." : top ? `${number(top.count)} key${top.count === 1 ? "" : "s"}${top.key ? ` under ${show(top.key)}` : ""}` : "")),
      cut ? h("span", `The tree shows ${number(rowsMax)} rows at most: type a longer prefix.`) : null,
      input.dataset.at ? h("button.link", { type: "button", onclick: () => go("keys", {}) }, "all keys") : null);
    mark();
  }

  function draw(n) {
    if (!n.row) {
      n.row = h("li", { role: "treeitem", "aria-level": n.level, onclick: () => { focus(n); toggle(n); }, onfocus: () => { focused = n; mark(); } });
      n.row.style.setProperty("--level", n.level - 1);
    }
    if (n.extra) fill(n.row, h("span.label.more", n.parent.busy ? "Reading…" : `${number(n.parent.left)} more keys`));
    else {
      const name = n.label ?? show(n.parent && n.parent.from === undefined ? n.key.slice(n.parent.key.length) : n.key);
      set(n.row, { class: n.folder ? "folder" : "key", "aria-expanded": n.folder ? String(n.open) : null, title: show(n.key) });
      fill(n.row, n.folder ? icon("chevron") : h("span.nub"), icon(n.folder ? "folder" : "key"), h("span.label", name),
        n.busy ? h("span.count", "…") : n.folder && n.count !== null ? h("span.count", number(n.count)) : null, n.error ? h("span.bad", n.error) : null);
    }
    return n.row;
  }

  function mark() {
    const current = focused ?? rows[0];
    for (const n of rows) set(n.row, { tabindex: n === current ? "0" : "-1", "aria-selected": String(!n.extra && !n.folder && n.key === chosen) });
  }

  function focus(n) {
    focused = n;
    mark();
    n?.row?.focus();
  }

  tree.addEventListener("keydown", (e) => {
    if (e.altKey || e.ctrlKey || e.metaKey) return;
    const at = rows.indexOf(focused ?? rows[0]), n = rows[at];
    if (!n) return;
    const to = (i) => focus(rows[Math.max(0, Math.min(rows.length - 1, i))]);
    const acts = {
      ArrowDown: () => to(at + 1), ArrowUp: () => to(at - 1), j: () => to(at + 1), k: () => to(at - 1), Home: () => to(0), End: () => to(rows.length - 1),
      PageDown: () => to(at + 15), PageUp: () => to(at - 15), Enter: () => toggle(n), " ": () => toggle(n),
      ArrowRight: () => (n.folder && !n.open ? toggle(n) : to(at + 1)),
      ArrowLeft: () => (n.folder && n.open ? toggle(n) : n.parent && n.parent.level > 0 ? focus(n.parent) : null),
    };
    if (!acts[e.key]) return;
    e.preventDefault();
    acts[e.key]();
  });

  // enter shows what the address says: a prefix for the tree, or a key for the value.
  async function enter({ key, prefix, exact }) {
    if (exact && key !== undefined) { // typed: a key if there is such a one, else a prefix
      if (key === "") return go("keys", {}, true);
      const found = await values.exists(key);
      return go("keys", found ? { key } : { prefix: key }, true);
    }
    if (prefix !== undefined || key === undefined) {
      const at = prefix ?? "";
      if (input.dataset.at !== at || !roots.length) {
        input.dataset.at = at;
        input.value = at === "" ? "" : show(at);
        reload();
      }
    } else if (!roots.length) {
      input.dataset.at = "";
      reload();
    }
    chosen = key ?? null;
    set(root, { "data-key": key !== undefined });
    values.open(key);
    mark();
    if (key !== undefined) reveal(key);
  }

  function login() {
    roots = [];
    rows = [];
  }

  return { root, enter, login, search: () => input.select() ?? input.focus(), title: "Keys" };
}
