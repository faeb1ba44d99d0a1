// Making elements. Text goes in as text, never as markup.

// h makes an element: h("button.primary", { onclick, "aria-label": … }, "text", element, [more]).
export function h(spec, ...kids) {
  const [tag, ...classes] = spec.split(".");
  const e = document.createElement(tag || "div");
  if (classes.length) e.className = classes.join(" ");
  if (kids[0] && Object.getPrototypeOf(kids[0]) === Object.prototype) set(e, kids.shift());
  add(e, kids);
  return e;
}

export function set(e, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) {
      heard.add(e);
      e.addEventListener(name.slice(2), value);
    }
    else if (value === null || value === undefined || value === false) e.removeAttribute(name);
    else if (name === "value") e.value = value;
    else e.setAttribute(name, value === true ? "" : value);
  }
  return e;
}

function add(e, kids) {
  for (const kid of kids) {
    if (Array.isArray(kid)) add(e, kid);
    else if (kid !== null && kid !== undefined && kid !== false) e.append(kid);
  }
}

// heard are elements that listen: they are not given the place of another one.
const heard = new WeakSet();

// fill gives an element these children and keeps of the old ones what it can: focus, selection and scrolling stay.
export function fill(e, ...kids) {
  const fresh = document.createElement("div");
  add(fresh, kids);
  morph(e, fresh);
  return e;
}

function morph(old, fresh) {
  const wanted = [...fresh.childNodes];
  wanted.forEach((n, i) => {
    const o = old.childNodes[i];
    if (!o) old.append(n);
    else if (o.isEqualNode(n)) return;
    else if (o.nodeType !== n.nodeType || o.nodeName !== n.nodeName || heard.has(o) || heard.has(n) || n.nodeName === "svg") o.replaceWith(n);
    else if (n.nodeType === Node.TEXT_NODE) o.data = n.data;
    else {
      for (const { name } of [...o.attributes]) if (!n.hasAttribute(name)) o.removeAttribute(name);
      for (const { name, value } of n.attributes) if (name !== "style" && o.getAttribute(name) !== value) o.setAttribute(name, value);
      if (n.style.cssText !== o.style.cssText) o.style.cssText = n.style.cssText;
      morph(o, n);
    }
  });
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

// put sets text only when it differs.
export function put(e, text) {
  if (e.textContent !== text) e.textContent = text;
  return e;
}

export function svg(tag, attributes, ...kids) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes ?? {})) e.setAttribute(name, value);
  e.append(...kids);
  return e;
}

const paths = {
  overview: "M4 13h6V4H4zM14 20h6v-9h-6zM4 20h6v-3H4zM14 7h6V4h-6z",
  keys: "M4 6h5l2 2h9v11H4zM4 11h16",
  watch: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 9.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6z",
  folder: "M3.5 7V18.5h17V8.5h-8.5l-2-2.5H3.5z",
  key: "M7 3.5h7l4 4v13H7zM13.5 3.5V8H18",
  chevron: "m9 5 7 7-7 7",
  back: "m14 5-7 7 7 7",
  check: "m5 12.5 4.5 4.5L19 7.5",
  alert: "M12 4 2.8 19.5h18.4zM12 10v4.5M12 16.8v.4",
  stop: "M8 3.5h8l4.5 4.5v8L16 20.5H8L3.5 16V8zM12 7.5v5.5M12 16v.4",
  note: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM12 11v5.5M12 7.8v.4",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
  moon: "M20 14.2A8.2 8.2 0 0 1 9.8 4 8.2 8.2 0 1 0 20 14.2z",
  auto: "M12 3.5a8.5 8.5 0 1 0 0 17zM12 3.5a8.5 8.5 0 0 1 0 17",
  help: "M9 9.2a3 3 0 1 1 4.3 2.7c-.9.4-1.3 1-1.3 2.1M12 17v.4M12 2.8a9.2 9.2 0 1 0 0 18.4 9.2 9.2 0 0 0 0-18.4z",
  user: "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM4.5 20.5c.6-4 3.5-6 7.5-6s6.9 2 7.5 6",
  pause: "M8 5v14M16 5v14",
  play: "M7 4.5v15l12-7.5z",
  crown: "M4 17.5 3 7.5l5 4 4-6.5 4 6.5 5-4-1 10z",
  refresh: "M19.5 12a7.5 7.5 0 1 1-2.3-5.4M19.5 3.5v4.2h-4.2",
  out: "M14 4h6v6M20 4l-9 9M17 13v7H4V7h7",
};

export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: `icon i-${name}`, "aria-hidden": "true" }, svg("path", { d: paths[name] }));
}

// mark is the sign of the product.
export function mark() {
  const dot = (cx, cy, cls) => svg("circle", { cx, cy, r: 4, class: cls });
  return svg("svg", { viewBox: "3 3.5 26 24", class: "mark", "aria-hidden": "true" },
    svg("path", { d: "M16 9.5 9 21.5h14z" }), dot(16, 9.5, "lead"), dot(9, 21.5, ""), dot(23, 21.5, ""));
}

let fading;

// toast says something that passes, aloud too.
export function toast(words) {
  const e = document.getElementById("toast");
  put(e, words);
  e.classList.add("on");
  clearTimeout(fading);
  fading = setTimeout(() => e.classList.remove("on"), 2500);
}

export async function copy(words, what) {
  try {
    await navigator.clipboard.writeText(words);
    toast(`Copied ${what}`);
  } catch {
    toast(`The browser does not let this page copy ${what}`);
  }
}
