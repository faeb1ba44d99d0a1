// The first view: what is wrong, the cluster, and its load.
import { fill, h, icon, put, set } from "./dom.js";
import { mean, state, total } from "./state.js";
import { ago, id, number, rate, seconds, size } from "./bytes.js";
import { named, problems, reachable } from "./health.js";
import { plot } from "./plot.js";

const of = (f, part) => (r) => (f(r) ? f(r)[part] : null);

export function overview() {
  const verdict = h("section.verdict", { "aria-label": "Health", "aria-live": "polite" });
  const tiles = h("section.tiles", { "aria-label": "At a glance" });
  const members = h("section.card.members", { "aria-label": "Members" });
  const plots = [
    plot({ title: "Requests", unit: "per second", format: rate, floor: 4, series: [
      { name: "reads", cls: "c1", value: (r) => r.range }, { name: "puts", cls: "c2", value: (r) => r.put },
      { name: "transactions", cls: "c3", value: (r) => r.txn }, { name: "deletes", cls: "c4", value: (r) => r.delete }] }),
    plot({ title: "Write latency", unit: "at this member", format: seconds, floor: 0.001, series: [
      { name: "mean", cls: "c2", value: of((r) => r.write, "mean") }, { name: "p99", cls: "c3", thin: true, value: of((r) => r.write, "high") }] }),
    plot({ title: "Read latency", unit: "at this member", format: seconds, floor: 0.0002, series: [
      { name: "mean", cls: "c1", value: of((r) => r.read, "mean") }, { name: "p99", cls: "c3", thin: true, value: of((r) => r.read, "high") }] }),
    plot({ title: "Disk", unit: "time until the log is durable", format: seconds, floor: 0.001, series: [
      { name: "mean", cls: "c5", value: of((r) => r.fsync, "mean") }, { name: "p99", cls: "c3", thin: true, value: of((r) => r.fsync, "high") }] }),
    plot({ title: "Watch events", unit: "per second", format: rate, floor: 4, series: [{ name: "offered to watchers", cls: "c4", value: (r) => r.events }] }),
    plot({ title: "Clients", unit: "bytes per second over gRPC", format: size, floor: 1024, base: 1024, series: [
      { name: "sent", cls: "c1", value: (r) => r.sent }, { name: "received", cls: "c2", value: (r) => r.received }] }),
  ];
  const facts = h("section.card.facts", { "aria-label": "Details" });
  const root = h("div.overview", h("h1.hidden", "Overview"), verdict, tiles, members, h("section.plots", { "aria-label": "Load" }, plots.map((p) => p.figure)), facts);

  function update() {
    set(root, { "data-stale": !!state.trouble });
    fill(verdict, ...health());
    if (!state.stats) return;
    fill(tiles, ...glance());
    fill(members, ...table());
    plots.forEach((p) => p.update(state.readings));
    fill(facts, ...details());
  }
  return { root, update, title: "Overview" };
}

const looks = { critical: "stop", warning: "alert", note: "note" };

function health() {
  const all = problems();
  const bad = all.filter((p) => p.level !== "note");
  const line = (p) => h(`li.${p.level}`, icon(looks[p.level]), h("div", h("b", p.title), h("p", p.detail)));
  if (!state.stats && !state.trouble) return [h("div.headline.wait", h("h2", "Asking the member…"))];
  const worst = bad[0]?.level ?? "good";
  const words = bad.length ? (bad.length === 1 ? "One thing needs attention" : `${bad.length} things need attention`) : "Everything is well";
  const voters = state.members.filter((m) => !m.learner).length;
  const spare = voters ? Math.floor((voters - 1) / 2) : 0;
  const sub = bad.length ? (worst === "critical" ? "This needs you now." : "The cluster works; see to this soon.") + (bad.length > 1 ? " Worst first." : "") : voters > 1 ? `${voters} voting members; the cluster survives the loss of ${["none", "one", "two", "three"][spare] ?? spare}.` : "The member answers, and nothing is in its way.";
  return [h(`div.headline.${worst}`, icon(bad.length ? looks[worst] : "check"), h("div", h("h2", words), h("p", sub))), all.length ? h("ul.problems", all.map(line)) : null];
}

function glance() {
  const s = state.stats, store = s.sample.Store, raft = s.sample.Raft;
  const writes = mean((r) => r.put + r.txn + r.delete), reads = mean((r) => r.range);
  const share = store.QuotaBytes > 0 ? store.InUseBytes / store.QuotaBytes : null;
  const tile = (name, value, below, more) => h("div.tile", h("span.name", name), h("strong", value), h("span.below", below), more ?? null);
  return [
    tile("Leader", raft.HasLeader ? named(s.leader) : "none", raft.HasLeader && s.leader_since ? `term ${number(s.term)}, known for ${ago(s.at - s.leader_since)}` : `term ${number(s.term)}`),
    tile("Keys", number(store.Keys), `revision ${number(store.Revision)}`),
    tile("Data", size(store.InUseBytes), share === null ? "no quota" : `${share > 0 && share < 0.001 ? "< 0.1" : (share * 100).toFixed(share < 0.1 ? 1 : 0)} % of ${size(store.QuotaBytes)}`,
      share === null ? null : meter(share)),
    tile("Reads", reads === null ? "–" : `${rate(reads)}/s`, "at this member"),
    tile("Writes", writes === null ? "–" : `${rate(writes)}/s`, "at this member"),
    tile("Watchers", number(s.sample.Watch.Watchers), `on ${number(s.sample.Watch.Streams)} stream${s.sample.Watch.Streams === 1 ? "" : "s"}`),
  ];
}

function meter(share) {
  const level = share > 0.95 ? "critical" : share > 0.8 ? "warning" : "good";
  const e = h("meter.sr", { min: "0", max: "1", value: String(share), "aria-label": "share of the quota in use" });
  const bar = h(`i.${level}`);
  bar.style.width = `${Math.max(1, Math.min(100, share * 100))}%`;
  return h("div.meter", e, bar);
}

function table() {
  const s = state.stats;
  const row = (m) => {
    const self = m.id === s.member, lead = m.id === s.leader;
    const up = reachable(m.id);
    const behind = self ? s.sample.Raft.Committed - s.sample.Raft.Applied : s.behind?.[m.id];
    const rtt = up ? state.trips[m.id] : null;
    const role = lead ? "leader" : m.learner ? "learner" : !m.started ? "not started" : s.sample.Raft.HasLeader ? "follower" : "voter";
    const cell = (label, ...kids) => h("td", { "data-label": label }, ...kids);
    return h("tr", { class: up === false ? "down" : null },
      h("th", { scope: "row" }, h("div", h(`i.state.${up === false ? "critical" : up === null ? "unknown" : "good"}`, { role: "img", "aria-label": up === false ? "not connected" : up === null ? "unknown" : "up" }),
        h("span.who", h("b", m.name), h("small", m.id)), self ? h("span.badge", "this member") : null)),
      cell("role", h(`span.role.${lead ? "lead" : "other"}`, lead ? icon("crown") : null, role)),
      cell("log", up === false ? h("span.bad", "not connected") : behind === undefined ? h("span.dim", { title: "the leader knows" }, "–") : behind > 0 ? `${number(behind)} behind` : "up to date"),
      cell("round trip", self ? h("span.dim", "–") : rtt ? seconds(rtt.mean) : h("span.dim", "–")),
      cell("clients", h("span.urls", m.clients.map((u) => (self || !/^https?:/.test(u) ? h("code", u) : h("a", { href: u + "/ui/", rel: "noreferrer", title: `the page of ${m.name}` }, u, icon("out")))))));
  };
  const head = ["member", "role", "log", "round trip", "clients"].map((t) => h("th", { scope: "col" }, t));
  return [h("header", h("h2", "Members"), h("span.dim", `as ${named(s.member)} sees them`, s.leader !== s.member && s.sample.Raft.HasLeader && state.members.length > 1 ? `; how far their logs are, ${named(s.leader)} knows` : "")),
    state.members.length ? h("table", h("thead", h("tr", head)), h("tbody", state.members.map(row))) : h("p.empty", state.trouble ? "They cannot be listed now." : "Asking…")];
}

function details() {
  const s = state.stats, st = state.status, x = s.sample;
  const ends = (x.TLS ?? []).flatMap((t) => (t.Ends ?? []).map((e) => [t.Side, e])).sort((a, b) => a[1].Left - b[1].Left)[0];
  const failed = Object.values(s.requests).reduce((n, r) => n + r.failed, 0);
  const list = [
    ["Version", `Quorate ${s.versions.quorate}`], ["Compatible with", `etcd ${s.versions.etcd}`], ["Cluster version", x.ClusterVersion || "not decided"],
    ["Cluster id", st ? id(st.header?.cluster_id) : "–"], ["Raft index", `${number(x.Raft.Applied)} applied of ${number(x.Raft.Committed)}`],
    ["Changes of leader", number(x.Raft.LeaderChanges)], ["Compacted up to", x.Store.Compacted > 0 ? `revision ${number(x.Store.Compacted)}` : "never"],
    ["Files of the store", size(x.Store.TotalBytes)], ["Log written", size(x.Disk.LogBytes)],
    ["Requests answered", number(Object.values(s.requests).reduce((n, r) => n + total(r.ok), 0))], ["Requests failed", number(failed)],
    ["Leases granted / ended", `${number(x.Lease.Granted)} / ${number(x.Lease.Revoked + x.Lease.Expired)}`],
    ["File descriptors", `${number(x.Disk.OpenFiles)} of ${number(x.Disk.Limit)}`], ["Next end of a certificate", ends ? `${ago(ends[1].Left * 1000)} (${ends[0]})` : "no certificates"],
  ];
  return [h("header", h("h2", "Details")), h("dl", list.map(([k, v]) => h("div", h("dt", k), h("dd", v))))];
}
