// What is wrong, worst first, in words that say what to do.
import { state } from "./state.js";
import { ago, number, seconds, size } from "./bytes.js";

const rank = { critical: 0, warning: 1, note: 2 };
const lagging = 1000; // entries that a follower may lack before it is worth a word

export function problems() {
  const all = [];
  const say = (level, title, detail) => all.push({ level, title, detail });
  if (state.trouble) {
    const lost = state.trouble.status === 0;
    say("critical", lost ? "This member does not answer" : "The member answers with an error",
      `${sentence(state.trouble.message)} ${state.stats ? `What is shown is ${ago(Date.now() - state.since)} old; the page keeps asking.` : "The page keeps asking."}`);
  }
  const s = state.stats;
  if (s) {
    quorum(s, say);
    alarms(s, say);
    data(s, say);
    machine(s, say);
    shape(s, say);
  }
  return all.sort((a, b) => rank[a.level] - rank[b.level]);
}

const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1).replace(/[.\s]*$/, ".");

export function named(id) {
  const m = state.members.find((m) => m.id === id);
  return m ? m.name : id;
}

// reachable is whether another member is connected; null when this member does not say.
export function reachable(id) {
  if (id === state.stats?.member) return true;
  const peer = state.stats?.sample.Peers?.find((p) => p.ID === id);
  return peer ? peer.Active : null;
}

function quorum(s, say) {
  const voters = state.members.filter((m) => !m.learner);
  const down = state.members.filter((m) => reachable(m.id) === false);
  const left = voters.length - down.filter((m) => !m.learner).length;
  const need = Math.floor(voters.length / 2) + 1;
  if (!s.sample.Raft.HasLeader) {
    say("critical", "No leader", voters.length && left < need
      ? `This member reaches ${left} of ${voters.length} voting members, itself included, and ${need} are needed. Nothing can be written, and only serializable reads are answered, until more are back.`
      : "Members are electing one, or cannot reach each other. Nothing can be written until there is one; if this lasts, look at their logs and at the network between them.");
  }
  const gone = down.filter((m) => !m.learner).map((m) => m.name), spare = left - need;
  if (gone.length) {
    const [who, it] = gone.length === 1 ? ["the member", "it"] : ["them", "them"];
    say(spare < 0 ? "critical" : "warning", `${gone.join(", ").replace(/, ([^,]*)$/, " and $1")} cannot be reached from here`,
      spare > 0 ? `The cluster goes on, and may lose ${spare} more. Start ${who} again, or replace ${it}.`
        : spare === 0 ? `The cluster goes on, but stops if one more is lost. Start ${who} again, or replace ${it}.`
          : `Too few members are left for a majority: start ${who} again.`);
  }
  for (const m of down.filter((m) => m.learner)) say("warning", `The learner ${m.name} cannot be reached from here`, "The cluster goes on without it, but it falls behind.");
  for (const [id, behind] of Object.entries(s.behind ?? {})) {
    if (behind > lagging && reachable(id) !== false) say("warning", `${named(id)} is ${number(behind)} entries behind`, "It is catching up, or its disk or its network is slower than the load.");
  }
  const own = s.sample.Raft.Committed - s.sample.Raft.Applied;
  if (own > lagging) say("warning", `This member has ${number(own)} entries to apply`, "Serializable reads here are that far behind.");
}

const alarmWords = {
  NOSPACE: "Data has reached the quota: writes that grow the store are refused. Delete keys that are not needed, compact, and raise --quota-backend-bytes if the data is wanted. The alarm clears itself once there is space again.",
  CORRUPT: "The data of a member differs from that of the others. Stop that member and have it take its data from the others: quorate heal.",
};

function alarms(s, say) {
  for (const a of s.sample.Alarms ?? []) say("critical", `Alarm ${a.Name}${a.Member === "0" ? "" : ` on ${named(a.Member)}`}`, alarmWords[a.Name] ?? "The server raised it; its log says why.");
}

function data(s, say) {
  const { InUseBytes: used, QuotaBytes: quota } = s.sample.Store;
  if (quota > 0 && used > 0.8 * quota && !(s.sample.Alarms ?? []).some((a) => a.Name === "NOSPACE"))
    say("warning", `${Math.floor((100 * used) / quota)} % of the quota is used`, `${size(used)} of ${size(quota)}. At 100 % writes are refused. Compact old revisions, delete what is not needed, or raise --quota-backend-bytes.`);
  if (s.sample.Watch.Slow > 0) say("note", `${number(s.sample.Watch.Slow)} watcher${s.sample.Watch.Slow === 1 ? " is" : "s are"} behind`, "Clients take events more slowly than they come, or ask for old ones.");
}

function machine(s, say) {
  const fsyncs = state.readings.slice(-30).map((r) => r.fsync?.high).filter((v) => v !== undefined);
  const slow = fsyncs.length > 4 && fsyncs.sort((a, b) => a - b)[Math.floor(fsyncs.length / 2)];
  if (slow > 0.1) say("warning", "The disk is slow", `One in a hundred waits for it takes longer than ${seconds(slow)}; every write waits for a majority of such disks.`);
  const elections = state.readings.reduce((n, r) => n + r.elections, 0);
  if (elections > 2) say("warning", `${elections} changes of leader in ${ago(state.readings.at(-1).at - state.readings[0].at)}`, "Members lose sight of each other: look for an overloaded machine, a slow disk or a bad network.");
  const { OpenFiles: files, Limit: limit } = s.sample.Disk;
  if (limit && files > 0.8 * limit) say("warning", `${number(files)} of ${number(limit)} file descriptors are used`, "New connections are refused at the limit. Raise it (LimitNOFILE in a unit), or find out who connects.");
  for (const line of s.warnings ?? []) say("warning", "A certificate ends soon, or has ended", sentence(line) + " Replace the file; no restart is needed.");
  for (const t of s.sample.TLS ?? []) if (t.Failing) say("warning", `Changed certificates towards ${t.Side}s cannot be used`, "The old ones stay in use; the server's log says why.");
}

function shape(s, say) {
  const voters = state.members.filter((m) => !m.learner).length;
  if (voters === 1) say("note", "One member alone", "No copy of the data is anywhere else. Three members survive the loss of one.");
  else if (voters > 0 && voters % 2 === 0) say("note", `${voters} voting members`, `An even number survives no more losses than ${voters - 1} would.`);
  for (const m of state.members) {
    if (!m.started) say("note", `A member at ${m.peers.join(", ")} was added and has not started`, "It counts for the majority already. Start it, or remove it.");
    if (m.learner) say("note", `${m.name} is a learner`, "It gets all data and has no vote yet. Promote it once it has caught up.");
  }
}
