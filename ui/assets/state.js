// What the page knows of the member, asked again every two seconds while somebody looks.
import { past, post, session, stats } from "./api.js";
import { id } from "./bytes.js";

const every = 2000; // milliseconds
const keep = 301; // readings: ten minutes

export const state = {
  stats: null, // the last answer of stats
  status: null, // of Maintenance.Status
  members: [],
  trouble: null, // the error of the last try
  refused: null, // what this user may not see
  since: 0, // when trouble began
  trips: {}, // the last latency of round trips to other members, by id
  readings: [], // what the plots show, oldest first
};

const listeners = new Set();
let remembered = 0, // when the newest reading came
  base = null, // what the next reading is the difference to
  ticks = 0, timer, running = false, again = false;

export function subscribe(f) {
  listeners.add(f);
  return () => listeners.delete(f);
}

const tell = () => listeners.forEach((f) => f());

// refresh asks at once: after a login, or when the page is looked at again.
export function refresh() {
  ticks = 0;
  if (running) again = true;
  else tick();
}

async function tick() {
  clearTimeout(timer);
  running = true;
  try {
    await look();
    state.trouble = null;
  } catch (err) {
    if (session.asking) return rest();
    if (!state.trouble) state.since = Date.now();
    state.trouble = err;
  }
  rest();
}

function rest() {
  running = false;
  tell();
  const wait = again ? 0 : every;
  again = false;
  if (!document.hidden) timer = setTimeout(tick, wait);
}

async function look() {
  if (Date.now() - remembered > 3 * every) { // at first, and after nobody looked
    base = null;
    (await past()).forEach(note);
  }
  const now = await stats();
  note(now);
  state.stats = now;
  remembered = Date.now();
  if (session.asking) return; // who looks: nothing else is answered before
  const due = ticks++ % 5 === 0;
  const [status, members] = await Promise.all([post("maintenance/status"), due ? post("cluster/member/list", { linearizable: false }) : null]);
  state.status = status;
  if (members) state.members = (members.members ?? []).map(member).sort((a, b) => (a.name < b.name ? -1 : 1));
}

const member = (m) => ({
  id: id(m.ID), name: m.name || "(not started)", learner: !!m.isLearner, started: !!m.name,
  clients: m.clientURLs ?? [], peers: m.peerURLs ?? [],
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});

// Operations that change something, and those that read, by their names among the requests.
const writes = ["Put", "DeleteRange", "Txn", "LeaseGrant", "LeaseRevoke"];

function note(now) {
  const before = base;
  bound(now);
  const dt = before ? (now.at - before.at) / 1000 : 0;
  if (before && dt >= 0 && dt < 1) return; // too short for a rate
  base = now;
  if (!before || before.member !== now.member || now.sample.Raft.Applied < before.sample.Raft.Applied) {
    state.readings.length = 0; // the first look, or another life of the process
    return;
  }
  for (const [id, fresh] of Object.entries(now.peers)) {
    const old = before.peers[id];
    state.trips[id] = (old && latency(subtract(fresh, old))) ?? state.trips[id];
  }
  const delta = (f) => Math.max(0, f(now) - f(before)) / dt;
  const done = (name) => delta((s) => total(s.requests[name]?.ok) + (s.requests[name]?.failed ?? 0));
  const times = (f) => subtract(f(now), f(before));
  const written = writes.map((name) => times((s) => s.requests[name].ok));
  state.readings.push({
    at: now.at,
    put: done("Put"), range: done("Range"), txn: done("Txn"), delete: done("DeleteRange"), lease: done("LeaseGrant") + done("LeaseRevoke"),
    failed: delta((s) => Object.values(s.requests).reduce((n, r) => n + r.failed, 0)),
    write: latency(written.reduce(plus)), read: latency(times((s) => s.range)),
    fsync: latency(times((s) => s.fsync)), commit: latency(times((s) => s.commit)),
    events: delta((s) => s.sample.Watch.Events), sent: delta((s) => s.sent), received: delta((s) => s.received),
    bytes: now.sample.Store.InUseBytes, disk: now.sample.Store.TotalBytes,
    elections: now.sample.Raft.LeaderChanges - before.sample.Raft.LeaderChanges,
  });
  if (state.readings.length > keep) state.readings.shift();
}

// bound gives every histogram its bounds, which come once for all.
function bound(s) {
  for (const r of Object.values(s.requests)) r.ok.bounds = s.bounds.requests;
  s.range.bounds = s.bounds.range;
  s.fsync.bounds = s.commit.bounds = s.bounds.disk;
  for (const p of Object.values(s.peers)) p.bounds = s.bounds.peers;
}

export const total = (times) => (times ? times.counts.reduce((a, b) => a + b, 0) : 0);

const subtract = (a, b) => ({ bounds: a.bounds, counts: a.counts.map((n, i) => n - b.counts[i]), sum: a.sum - b.sum });
const plus = (a, b) => ({ bounds: a.bounds, counts: a.counts.map((n, i) => n + b.counts[i]), sum: a.sum + b.sum });

// latency is the mean and the 99th percentile of a histogram, null when nothing happened.
export function latency(times) {
  const n = total(times);
  if (n === 0) return null;
  return { mean: Math.max(0, times.sum / n), high: Math.max(quantile(times, n, 0.99), times.sum / n) };
}

function quantile(times, n, q) {
  let left = q * n;
  for (let i = 0; i < times.counts.length; i++) {
    const low = i ? times.bounds[i - 1] : 0;
    if (left <= times.counts[i]) return i < times.bounds.length ? low + ((times.bounds[i] - low) * left) / times.counts[i] : low;
    left -= times.counts[i];
  }
  return times.bounds.at(-1);
}

// mean is what the readings of the last so many seconds come to.
export function mean(f, span = 10) {
  const from = (state.readings.at(-1)?.at ?? 0) - span * 1000;
  const recent = state.readings.filter((r) => r.at > from);
  return recent.length ? recent.reduce((n, r) => n + f(r), 0) / recent.length : null;
}
