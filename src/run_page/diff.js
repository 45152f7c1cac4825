// Elements, and the differences of two texts by line. Texts become text nodes: no markup is ever built from data.
"use strict";

// el("p", {class: "quiet"}, "text", child, …)
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") node.addEventListener("click", value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

// --- differences by line ------------------------------------------------------------------------------------------

// [[kind, line], …] with the kinds " ", "-" and "+": the longest common subsequence of lines.
function lineDiff(before, after) {
  const [a, b] = [before, after].map((text) => text.replace(/\n+$/, "").split("\n"));
  if (a.length * b.length > 4e6) return [...a.map((line) => ["-", line]), ...b.map((line) => ["+", line])];
  const width = b.length + 1,
    best = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      best[i * width + j] =
        a[i] === b[j]
          ? best[(i + 1) * width + j + 1] + 1
          : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
  const rows = [];
  let i = 0,
    j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      rows.push([" ", a[i]]);
      i++;
      j++;
    } else if (j === b.length || (i < a.length && best[(i + 1) * width + j] >= best[i * width + j + 1]))
      rows.push(["-", a[i++]]);
    else rows.push(["+", b[j++]]);
  }
  return rows;
}

// The part of a line that differs from its counterpart, between what both begin and end with: [start, end].
function changed(line, other) {
  let start = 0,
    end = 0;
  const most = Math.min(line.length, other.length);
  while (start < most && line[start] === other[start]) start++;
  while (end < most - start && line[line.length - 1 - end] === other[other.length - 1 - end]) end++;
  return [start, line.length - end];
}

function diffBlock(before, after) {
  const rows = lineDiff(before, after),
    pre = el("pre", { class: "diff", tabindex: "0" });
  for (let at = 0; at < rows.length;) {
    let minus = at;
    while (minus < rows.length && rows[minus][0] === "-") minus++;
    let plus = minus;
    while (plus < rows.length && rows[plus][0] === "+") plus++;
    const removed = rows.slice(at, minus),
      added = rows.slice(minus, plus);
    if (plus === at) {
      pre.append("  " + rows[at][1] + "\n");
      at++;
      continue;
    }
    const pairs = Math.min(removed.length, added.length);
    [removed, added].forEach((side, which) =>
      side.forEach(([kind, line], n) => {
        const [start, end] = n < pairs ? changed(line, [added, removed][which][n][1]) : [0, 0];
        const parts = [
          kind + " " + line.slice(0, start),
          end > start ? el("mark", {}, line.slice(start, end)) : null,
          line.slice(end > start ? end : start),
        ];
        pre.append(el("span", { class: which ? "add" : "del" }, ...parts), "\n");
      }),
    );
    at = plus;
  }
  return pre;
}
