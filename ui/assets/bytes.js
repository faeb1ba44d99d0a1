// Keys and values are byte strings here: JavaScript strings whose characters are bytes. They compare, cut and join like the
// server's keys; what a person reads is made at the very end, by show().

const utf8 = new TextDecoder("utf-8", { fatal: true });

export const fromBase64 = (text) => (text ? atob(text) : "");
export const toBase64 = (bytes) => btoa(bytes);

export function toBytes(bytes) {
  const out = new Uint8Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) out[i] = bytes.charCodeAt(i);
  return out;
}

// encode turns what a person typed into bytes. \xNN stands for a byte that no keyboard has.
export function encode(text) {
  let out = "";
  for (const b of new TextEncoder().encode(text)) out += String.fromCharCode(b);
  return out.replace(/\\(\\|x[0-9a-fA-F]{2})/g, (all, what) => (what === "\\" ? "\\" : String.fromCharCode(parseInt(what.slice(1), 16))));
}

// text is the bytes as UTF-8 text, null when they are something else.
export function text(bytes) {
  if (/[\x00-\x08\x0e-\x1f\x7f]/.test(bytes)) return null;
  try {
    return utf8.decode(toBytes(bytes));
  } catch {
    return null;
  }
}

// show is a key as a person reads it; encode() makes the same bytes of it again.
export function show(bytes) {
  const plain = text(bytes);
  if (plain !== null && !/[\n\r\t\\]/.test(plain)) return plain;
  return bytes.replace(/[^\x20-\x5b\x5d-\x7e]/g, (c) => (c === "\\" ? "\\\\" : "\\x" + c.charCodeAt(0).toString(16).padStart(2, "0")));
}

// For the address bar: every byte but the harmless ones as %NN.
export const toHash = (bytes) => bytes.replace(/[^A-Za-z0-9\-._~/:@]/g, (c) => "%" + c.charCodeAt(0).toString(16).padStart(2, "0"));
export const fromHash = (part) => part.replace(/%([0-9a-fA-F]{2})/g, (all, hex) => String.fromCharCode(parseInt(hex, 16)));

// prefixEnd is the first key behind all that begin with prefix; "\0" for the end of all keys.
export function prefixEnd(prefix) {
  for (let i = prefix.length - 1; i >= 0; i--) {
    const c = prefix.charCodeAt(i);
    if (c < 0xff) return prefix.slice(0, i) + String.fromCharCode(c + 1);
  }
  return "\0";
}

// range is the key and range_end of a request for everything below a prefix.
export const range = (prefix) => ({ key: toBase64(prefix || "\0"), range_end: toBase64(prefixEnd(prefix)) });

// kubernetes reads the envelope around Kubernetes objects: apiVersion and kind. null for other values.
export function kubernetes(value) {
  if (!value.startsWith("k8s\0")) return null;
  const meta = field(value, 4, 1);
  if (meta === null) return null;
  return { version: field(meta, 0, 1) ?? "", kind: field(meta, 0, 2) ?? "" };
}

// field is a length-delimited field of a protobuf message, null when it is not there.
function field(message, at, wanted) {
  const varint = () => {
    let n = 0;
    for (let shift = 0; shift < 35 && at < message.length; shift += 7) {
      const b = message.charCodeAt(at++);
      n += (b & 0x7f) * 2 ** shift;
      if (b < 0x80) return n;
    }
    return null;
  };
  while (at < message.length) {
    const tag = varint();
    if (tag === null || (tag & 7) !== 2) return null; // the envelope begins with fields of this kind
    const size = varint();
    if (size === null || at + size > message.length) return null;
    if (tag >> 3 === wanted) return message.slice(at, at + size);
    at += size;
  }
  return null;
}

// json is the same document with line breaks and indents, as a list of [class, text]; null when it is none. Tokens are kept as
// they are: a number of 64 bits would not survive being read.
export function json(plain) {
  if (!/^\s*[[{]/.test(plain)) return null;
  try {
    JSON.parse(plain);
  } catch {
    return null;
  }
  const out = [];
  let depth = 0;
  const line = () => out.push(["", "\n" + "  ".repeat(depth)]);
  const tokens = plain.match(/"(?:[^"\\]|\\.)*"|[-+.\w]+|[[\]{}:,]/g);
  tokens.forEach((t, i) => {
    const next = tokens[i + 1];
    if (t === "{" || t === "[") {
      out.push(["p", t]);
      if (next !== "}" && next !== "]") {
        depth++;
        line();
      }
    } else if (t === "}" || t === "]") {
      if (tokens[i - 1] !== "{" && tokens[i - 1] !== "[") {
        depth--;
        line();
      }
      out.push(["p", t]);
    } else if (t === ",") {
      out.push(["p", t]);
      line();
    } else if (t === ":") out.push(["p", ": "]);
    else if (t[0] === '"') out.push([next === ":" ? "k" : "s", t]);
    else out.push([/^[-\d]/.test(t) ? "n" : "l", t]);
  });
  return out;
}

// hex is the classic dump: offset, sixteen bytes, and what of them can be printed.
export function hex(bytes, from, to) {
  const lines = [];
  for (let at = from; at < Math.min(to, bytes.length); at += 16) {
    const row = bytes.slice(at, at + 16);
    const codes = [...row].map((c) => c.charCodeAt(0).toString(16).padStart(2, "0"));
    const left = codes.slice(0, 8).join(" ").padEnd(23), right = codes.slice(8).join(" ").padEnd(23);
    lines.push(`${at.toString(16).padStart(8, "0")}  ${left}  ${right}  ${row.replace(/[^\x20-\x7e]/g, "·")}`);
  }
  return lines.join("\n");
}

// Numbers for people.

export function size(n) {
  if (n < 1024) return `${Math.round(n)} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let i = -1;
  do {
    n /= 1024;
    i++;
  } while (n >= 1023.5 && i < units.length - 1);
  return `${n < 9.95 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

export const number = (n) => Number(n).toLocaleString("en").replaceAll(",", "\u202f");

export function rate(n) {
  if (n >= 9950) return n < 99500 ? `${(n / 1000).toFixed(1)} k` : `${Math.round(n / 1000)} k`;
  if (n >= 100) return String(Math.round(n));
  return Number.isInteger(n) ? String(n) : n < 9.95 ? n.toFixed(1) : String(Math.round(n));
}

export function seconds(s) {
  if (s < 0.00095) return `${Math.round(s * 1e6)} µs`;
  if (s < 0.00995) return `${(s * 1e3).toFixed(1)} ms`;
  if (s < 0.995) return `${Math.round(s * 1e3)} ms`;
  return s < 9.95 ? `${s.toFixed(1)} s` : `${Math.round(s)} s`;
}

export function ago(ms) {
  const s = Math.max(0, ms / 1000);
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}

// clock is the time of day.
export const clock = (ms) => new Date(ms).toTimeString().slice(0, 8);

// id is a decimal 64-bit number as the rest of the system writes ids.
export const id = (decimal) => BigInt(decimal || 0).toString(16);
