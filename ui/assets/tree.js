// Reading the key space as folders, a page at a time.
//
// A folder is listed by jumping: a request takes a batch of keys, without values; when the batch ends within a subfolder, the
// next request begins behind that subfolder, however many keys are in it. The counts that come with the answers say how many
// were jumped over. So the server touches a few batches for a folder of millions of keys.
import { post } from "./api.js";
import { fromBase64, prefixEnd, toBase64 } from "./bytes.js";

export const page = 100; // children read at once
const batch = 150; // keys per request
const requestsMax = 60; // per page

const ask = (key, end, limit, signal) =>
  post("kv/range", { key: toBase64(key), range_end: toBase64(end), limit: String(limit), keys_only: true, serializable: true }, { signal });

// list reads children of a prefix from a cursor on. It returns { children, cursor, left }: cursor is null at the end, and left
// the number of keys behind it.
export async function list(prefix, end, cursor, delimiter, signal) {
  const children = [];
  let open = null, before = 0; // the folder that the last batch ended in, and the keys from the cursor's old place on
  for (let n = 0; n < requestsMax && children.length < page; n++) {
    const answer = await ask(cursor, end, batch, signal);
    const count = Number(answer.count ?? 0), kvs = answer.kvs ?? [];
    if (open) open.count += Math.max(0, before - count);
    open = null;
    for (const kv of kvs) add(children, prefix, fromBase64(kv.key), delimiter);
    if (!answer.more) return { children, cursor: null, left: 0 };
    const last = children.at(-1), key = fromBase64(kvs.at(-1).key);
    before = count - kvs.length;
    if (last.folder) {
      open = last;
      cursor = prefixEnd(last.key);
      if (cursor === "\0" || cursor >= end && end !== "\0") {
        last.count += before;
        return { children, cursor: null, left: 0 };
      }
    } else cursor = key + "\0";
  }
  const answer = await post("kv/range", { key: toBase64(cursor), range_end: toBase64(end), count_only: true, serializable: true }, { signal });
  const left = Number(answer.count ?? 0);
  if (open) open.count += Math.max(0, before - left);
  return { children, cursor: left ? cursor : null, left };
}

// add counts a key: for the folder that it is in, or as a child of its own.
function add(children, prefix, key, delimiter) {
  let from = prefix.length;
  while (delimiter && key.startsWith(delimiter, from)) from += delimiter.length; // "/registry/…" begins with a folder, not with nothing
  const at = delimiter ? key.indexOf(delimiter, from) : -1;
  const folder = at >= 0, name = folder ? key.slice(0, at + delimiter.length) : key;
  const last = children.at(-1);
  if (folder && last?.folder && last.key === name) last.count++;
  else children.push({ folder, key: name, count: 1 });
}

// readable lists the ranges of keys that a user may read, by the roles that he has. Everybody may ask for his own.
export async function readable(user) {
  const { roles } = await post("auth/user/get", { name: user });
  const out = [];
  for (const role of roles ?? []) {
    const { perm } = await post("auth/role/get", { role });
    for (const p of perm ?? []) {
      if (p.permType === "WRITE") continue;
      out.push({ key: fromBase64(p.key), end: fromBase64(p.range_end) });
    }
  }
  return out;
}
