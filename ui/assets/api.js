// Asking the server. The token of a user is kept in this variable alone: closing or reloading the page forgets it.
import { fromBase64 } from "./bytes.js";

let token = "";
// needed is called when somebody has to log in, and asking is true until he has.
export const session = { user: "", needed: null, asking: false };

const patience = 12000; // milliseconds for an answer

export class Failure extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const codes = { denied: 7, unauthenticated: 16, compacted: 11, unimplemented: 12 };

export const denied = (err) => err.code === codes.denied;
export const compacted = (err) => err.code === codes.compacted && /compacted/.test(err.message);

// mustLogIn reports whether an error says that nobody is logged in, or not any more.
const mustLogIn = (err) => err.code === codes.unauthenticated || /user name is empty|invalid auth token/.test(err.message);

function headers() {
  const out = { "Content-Type": "application/json" };
  if (token) out.Authorization = token;
  return out;
}

async function failure(answer) {
  const words = await answer.text().catch(() => "");
  try {
    const e = JSON.parse(words);
    const inner = e.error && typeof e.error === "object" ? e.error : e;
    return new Failure(answer.status, inner.code ?? inner.grpc_code ?? 0, inner.message ?? inner.error ?? words);
  } catch {
    if (answer.status === 404) return new Failure(404, codes.unimplemented, "the JSON gateway is switched off on this member: this page needs --enable-grpc-gateway");
    return new Failure(answer.status, 0, words.trim() || `the server answered ${answer.status}`);
  }
}

// post asks the gateway. Errors are Failures; what cannot be reached has status 0.
export async function post(path, body, { signal, login = true } = {}) {
  const limit = AbortSignal.timeout(patience), asWhom = token;
  let answer;
  try {
    answer = await fetch("/v3/" + path, { method: "POST", headers: headers(), body: JSON.stringify(body ?? {}), signal: signal ? AbortSignal.any([signal, limit]) : limit });
  } catch (err) {
    if (signal?.aborted) throw err;
    throw new Failure(0, 14, limit.aborted ? `no answer within ${patience / 1000} s` : "this member cannot be reached");
  }
  if (answer.ok) return answer.json();
  const err = await failure(answer);
  if (mustLogIn(err) && login && asWhom === token) session.needed?.(); // else somebody has logged in meanwhile
  throw err;
}

// stats are the numbers of the member now, past those of the last minutes.
export const stats = () => numbers("stats");
export const past = () => numbers("past");

async function numbers(name) {
  let answer;
  try {
    answer = await fetch(name, { signal: AbortSignal.timeout(patience) });
  } catch {
    throw new Failure(0, 14, "this member cannot be reached");
  }
  if (!answer.ok) throw await failure(answer);
  return answer.json();
}

export async function logIn(name, password) {
  const answer = await post("auth/authenticate", { name, password }, { login: false });
  token = answer.token;
  session.user = name;
}

export function logOut() {
  token = "";
  session.user = "";
}

// records are the pairs of an answer, with bytes where the gateway has base64.
export const records = (answer) => (answer.kvs ?? []).map(record);

export function record(kv) {
  return {
    key: fromBase64(kv.key), value: fromBase64(kv.value), created: Number(kv.create_revision ?? 0),
    modified: Number(kv.mod_revision ?? 0), version: Number(kv.version ?? 0), lease: kv.lease ?? "0",
  };
}

// stream posts and calls each() with every result until the stream or the signal ends.
export async function stream(path, body, signal, each) {
  const asWhom = token;
  let answer;
  try {
    answer = await fetch("/v3/" + path, { method: "POST", headers: headers(), body: JSON.stringify(body), signal });
  } catch (err) {
    if (signal.aborted) throw err;
    throw new Failure(0, 14, "this member cannot be reached");
  }
  if (!answer.ok) {
    const err = await failure(answer);
    if (mustLogIn(err) && asWhom === token) session.needed?.();
    throw err;
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.trim()) continue;
      const { result, error } = JSON.parse(line);
      if (error) throw new Failure(200, error.code ?? error.grpc_code ?? 0, error.message);
      each(result);
    }
  }
}
