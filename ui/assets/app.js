// The frame of the page: its views and their addresses, login, keys of the keyboard, light and dark.
import { fill, h, icon, mark, put, set, toast } from "./dom.js";
import { logIn, logOut, session } from "./api.js";
import { fromHash, toHash } from "./bytes.js";
import { refresh, state, subscribe } from "./state.js";
import { named, problems } from "./health.js";
import { overview } from "./overview.js";
import { keys } from "./keys.js";
import { watch } from "./watch.js";

const main = document.getElementById("main");
const made = {}, makers = { overview, keys, watch };
const names = Object.keys(makers);
let current = "", shown = false;

// The address is #/view?key=… or #/view?prefix=…, with bytes as %NN. It stays in the browser.
function address() {
  const [view, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const out = {};
  for (const pair of query.split("&")) {
    const [name, value = ""] = pair.split("=");
    if (name === "key" || name === "prefix") out[name] = fromHash(value);
  }
  return [names.includes(view) ? view : "overview", out];
}

// go changes the address, and with it the view.
function go(view, what = {}, replace = false) {
  if (what.exact) return show(view, what);
  const query = ["key", "prefix"].filter((n) => what[n] !== undefined).map((n) => `${n}=${toHash(what[n])}`).join("&");
  const hash = `#/${view}${query ? "?" + query : ""}`;
  if (hash === location.hash) return route();
  if (replace) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  route();
}

function show(view, what) {
  made[view] ??= makers[view](go);
  if (current !== view) {
    current = view;
    main.replaceChildren(made[view].root);
    if (shown) main.focus({ preventScroll: true }); // the next Tab goes into the view
    shown = true;
    for (const [name, tab] of Object.entries(tabs)) set(tab, { "aria-current": name === view ? "page" : null });
    window.scrollTo(0, 0);
  }
  made[view].enter?.(what);
  update();
}

const route = () => show(...address());

// The header.

const tabs = Object.fromEntries(names.map((name) => [name, h("a", { href: `#/${name}` }, icon(name), h("span", name === "overview" ? "Overview" : name === "keys" ? "Keys" : "Watch"))]));
const pill = h("a.pill", { href: "#/overview" });
const theme = h("button.plain", { type: "button", onclick: turn });
const who = h("button.plain.who", { type: "button", hidden: true, onclick: leave });

document.getElementById("top").append(
  h("div.inner", h("a.brand", { href: "#/overview", "aria-label": "Quorate" }, mark(), h("span", "Quorate")), pill, h("nav", { "aria-label": "Views" }, Object.values(tabs)), h("div.tools", who, theme,
    h("button.plain", { type: "button", "aria-label": "Keyboard", title: "Keyboard (?)", onclick: help }, icon("help")))));

function update() {
  made[current]?.update?.();
  const bad = problems().filter((p) => p.level !== "note");
  const worst = bad[0]?.level ?? (state.stats ? "good" : "unknown");
  set(pill, { class: `pill ${worst}`, "aria-label": bad.length ? `${bad.length} problems; worst: ${bad[0].title}` : "healthy", title: bad[0]?.title ?? null });
  fill(pill, h(`i.state.${worst}`), h("span", state.stats ? named(state.stats.member) : "…"), bad.length ? h("b", String(bad.length)) : null);
  who.hidden = !session.user;
  set(who, { title: `Logged in as ${session.user}: log out`, "aria-label": `Logged in as ${session.user}: log out` });
  fill(who, icon("user"), h("span", session.user));
  document.title = `${bad.length ? `(${bad.length}) ` : ""}${made[current]?.title ?? ""} · ${state.stats ? named(state.stats.member) : "Quorate"}`;
}

// Light and dark.

const themes = ["auto", "light", "dark"];
const looks = { auto: "auto", light: "sun", dark: "moon" };

function dress(name) {
  set(document.documentElement, { "data-theme": name === "auto" ? null : name });
  fill(theme, icon(looks[name]));
  set(theme, { "aria-label": `Colours: ${name}`, title: `Colours: ${name} (t)` });
}

function turn() {
  const next = themes[(themes.indexOf(stored()) + 1) % themes.length];
  localStorage.setItem("quorate-theme", next);
  dress(next);
  toast(`Colours: ${next === "auto" ? "as the system says" : next}`);
}

const stored = () => (themes.includes(localStorage.getItem("quorate-theme")) ? localStorage.getItem("quorate-theme") : "auto");

// Login.

const user = h("input", { id: "user", name: "username", autocomplete: "username", required: true, spellcheck: "false", autocapitalize: "off" });
const password = h("input", { id: "password", name: "password", type: "password", autocomplete: "current-password", required: true });
const wrong = h("p.bad", { role: "alert" });
const enter = h("button.primary", { type: "submit" }, "Log in");
const dialog = h("dialog.login", { "aria-labelledby": "login-title" }, h("form", { onsubmit: submit },
  h("div.sign", mark()), h("h2", { id: "login-title" }, "Log in"), h("p.dim", "This cluster asks who you are. The page has the rights of this user; the token is kept in this tab only."),
  h("label", { for: "user" }, "User"), user, h("label", { for: "password" }, "Password"), password, wrong, enter));
dialog.addEventListener("cancel", (e) => e.preventDefault()); // there is nothing to see without
document.body.append(dialog);

session.needed = () => {
  if (session.asking) return;
  session.asking = true;
  const expired = session.user;
  logOut();
  user.value = expired;
  put(wrong, expired ? "The session has ended: log in again." : "");
  overlay.close();
  dialog.showModal();
  (expired ? password : user).focus();
};

async function submit(e) {
  e.preventDefault();
  enter.disabled = true;
  put(wrong, "");
  try {
    await logIn(user.value, password.value);
    session.asking = false;
    dialog.close();
    Object.values(made).forEach((v) => v.login?.());
    refresh();
    route();
  } catch (err) {
    put(wrong, /authentication failed|user name not found/.test(err.message) ? "The user name or the password is wrong." : err.message);
    enter.disabled = false;
    password.focus();
    password.select();
  }
  password.value = "";
  enter.disabled = false;
}

function leave() {
  logOut();
  location.reload();
}

// Keys of the keyboard.

const shortcuts = [
  ["Everywhere", [["1 2 3", "overview, keys, watch"], ["/", "to the prefix"], ["t", "light, dark, as the system"], ["?", "this help"], ["Esc", "close, or back"]]],
  ["Overview", [["Tab", "from plot to plot"], ["← →", "single points of a plot"]]],
  ["Keys", [["↑ ↓", "move"], ["→ ←", "open, close"], ["Enter", "show the value"], ["Home End", "first, last"]]],
  ["Watch", [["p", "pause, go on"]]],
];
const overlay = h("dialog.help", { "aria-labelledby": "help-title" },
  h("header", h("h2", { id: "help-title" }, "Keyboard"), h("button.plain", { type: "button", "aria-label": "Close", onclick: () => overlay.close() }, "✕")),
  h("div.groups", shortcuts.map(([title, list]) => h("section", h("h3", title), h("dl", list.map(([k, what]) => h("div", h("dt", k.split(" ").map((one) => h("kbd", one))), h("dd", what))))))),
  h("p.dim", "The page shows what you may read and changes nothing."));
overlay.addEventListener("click", (e) => e.target === overlay && overlay.close());
document.body.append(overlay);

function help() {
  overlay.showModal();
}

document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || dialog.open) return;
  const typing = e.target.closest?.("input, select, textarea");
  if (e.key === "Escape" && typing) return typing.blur();
  if (typing || overlay.open) return;
  const acts = {
    1: () => go("overview"), 2: () => go("keys"), 3: () => go("watch"), t: turn, "?": help,
    "/": () => { if (current === "overview") go("keys"); made[current].search?.(); },
    p: () => made[current].pause?.(), Escape: () => current === "keys" && address()[1].key !== undefined && document.querySelector(".value .back")?.click(),
  };
  if (!acts[e.key]) return;
  e.preventDefault();
  acts[e.key]();
});

addEventListener("popstate", route);
addEventListener("hashchange", route);
dress(stored());
subscribe(update);
route();
refresh();
