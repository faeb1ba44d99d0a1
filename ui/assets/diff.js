// The difference of two texts by lines: what is equal at both ends is set aside, the middle gets a longest common subsequence.
const middleMax = 600; // lines of either middle: the table is their product
const context = 2; // equal lines shown around a change

// diff returns [sign, line] with the signs "+", "-", " ", and "…" with the number of equal lines left out; null when the texts
// are too large to compare.
export function diff(a, b) {
  let head = 0, tail = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const x = a.slice(head, a.length - tail), y = b.slice(head, b.length - tail);
  if (x.length > middleMax || y.length > middleMax) return null;
  const out = [...a.slice(0, head).map((l) => [" ", l]), ...middle(x, y), ...a.slice(a.length - tail).map((l) => [" ", l])];
  return fold(out);
}

function middle(x, y) {
  const table = Array.from({ length: x.length + 1 }, () => new Uint16Array(y.length + 1));
  for (let i = x.length - 1; i >= 0; i--) for (let j = y.length - 1; j >= 0; j--) table[i][j] = x[i] === y[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
  const out = [];
  let i = 0, j = 0;
  while (i < x.length || j < y.length) {
    if (i < x.length && j < y.length && x[i] === y[j]) {
      out.push([" ", x[i++]]);
      j++;
    } else if (i < x.length && (j === y.length || table[i + 1][j] >= table[i][j + 1])) out.push(["-", x[i++]]);
    else out.push(["+", y[j++]]);
  }
  return out;
}

function fold(rows) {
  const near = rows.map((_, i) => rows.slice(Math.max(0, i - context), i + context + 1).some(([sign]) => sign !== " "));
  if (!near.includes(true)) return rows.slice(0, 20);
  const out = [];
  for (let i = 0; i < rows.length; i++) {
    if (near[i]) {
      out.push(rows[i]);
      continue;
    }
    let n = 0;
    while (i < rows.length && !near[i]) {
      n++;
      i++;
    }
    i--;
    out.push(["…", `${n} equal line${n === 1 ? "" : "s"}`]);
  }
  return out;
}
