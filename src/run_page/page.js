// The sample browser of the page. Everything that a model wrote becomes a text node: no markup is ever built from data.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const FIRST = 200; // rows of the list until more are asked for
  const TAGS = ["copy", "best of its group", "equals the target", "does not parse", "no answer", "better than before",
    "worse than before", "passes", "fails", "cut at the length limit"];
  const ALARMS = ["copy", "does not parse", "no answer", "worse than before", "fails", "cut at the length limit"];
  const LAST = "last - first";
  const ORDERS = { logged: "as logged", best: "best first", worst: "worst first" };
  const $ = (id) => document.getElementById(id);

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

  const signed = (value) => (value === null || value === undefined ? "–" : (value > 0 ? "+" : "") + value.toFixed(2));

  data.samples.forEach((sample, index) => {
    sample.index = index;
    sample.of = data.places[sample.place];
    sample.asked = data.tasks[sample.task];
    if (Array.isArray(sample.code)) sample.code = sample.text.slice(...sample.code);
    sample.address = "#/" + [sample.of.name, ...sample.path].map(encodeURIComponent).join("/");
  });
  const byAddress = new Map(data.samples.map((sample) => [sample.address, sample]));
  const valueOf = (sample) => (sample.of.unit === "passed" ? (sample.value ? "pass" : "fail") : signed(sample.value));

  // --- differences by line ------------------------------------------------------------------------------------------

  // [[kind, line], …] with the kinds " ", "-" and "+": the longest common subsequence of lines.
  function lineDiff(before, after) {
    const [a, b] = [before, after].map((text) => text.replace(/\n+$/, "").split("\n"));
    if (a.length * b.length > 4e6) return [...a.map((line) => ["-", line]), ...b.map((line) => ["+", line])];
    const width = b.length + 1, best = new Uint32Array((a.length + 1) * width);
    for (let i = a.length - 1; i >= 0; i--)
      for (let j = b.length - 1; j >= 0; j--)
        best[i * width + j] = a[i] === b[j] ? best[(i + 1) * width + j + 1] + 1
          : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
    const rows = [];
    let i = 0, j = 0;
    while (i < a.length || j < b.length) {
      if (i < a.length && j < b.length && a[i] === b[j]) { rows.push([" ", a[i]]); i++; j++; }
      else if (j === b.length || (i < a.length && best[(i + 1) * width + j] >= best[i * width + j + 1])) rows.push(["-", a[i++]]);
      else rows.push(["+", b[j++]]);
    }
    return rows;
  }

  // The part of a line that differs from its counterpart, between what both begin and end with: [start, end].
  function changed(line, other) {
    let start = 0, end = 0;
    const most = Math.min(line.length, other.length);
    while (start < most && line[start] === other[start]) start++;
    while (end < most - start && line[line.length - 1 - end] === other[other.length - 1 - end]) end++;
    return [start, line.length - end];
  }

  function diffBlock(before, after) {
    const rows = lineDiff(before, after), pre = el("pre", { class: "diff", tabindex: "0" });
    for (let at = 0; at < rows.length;) {
      let minus = at;
      while (minus < rows.length && rows[minus][0] === "-") minus++;
      let plus = minus;
      while (plus < rows.length && rows[plus][0] === "+") plus++;
      const removed = rows.slice(at, minus), added = rows.slice(minus, plus);
      if (plus === at) { pre.append("  " + rows[at][1] + "\n"); at++; continue; }
      const pairs = Math.min(removed.length, added.length);
      [removed, added].forEach((side, which) => side.forEach(([kind, line], n) => {
        const [start, end] = n < pairs ? changed(line, [added, removed][which][n][1]) : [0, 0];
        const parts = [kind + " " + line.slice(0, start), end > start ? el("mark", {}, line.slice(start, end)) : null, line.slice(end > start ? end : start)];
        pre.append(el("span", { class: which ? "add" : "del" }, ...parts), "\n");
      }));
      at = plus;
    }
    return pre;
  }

  // --- filters ------------------------------------------------------------------------------------------------------

  const state = { place: "", step: "", group: "", record: "", low: "", high: "", order: "logged", tags: new Set(), shown: FIRST };
  let visible = [], current = null;

  function matches(sample, tags = state.tags) {
    const is = (wanted, value) => wanted === "" || String(value) === wanted;
    return is(state.place, sample.place) && is(state.step, sample.step) &&
      is(state.group, sample.step === undefined ? "" : sample.path[1]) &&
      (state.record === "" || (sample.asked.id + " " + sample.asked.title).toLowerCase().includes(state.record.toLowerCase())) &&
      (state.low === "" || (sample.value !== null && sample.value >= Number(state.low))) &&
      (state.high === "" || (sample.value !== null && sample.value <= Number(state.high))) &&
      [...tags].every((tag) => sample.tags.includes(tag));
  }

  function field(label, key, input) {
    input.id = "filter-" + key;
    input.addEventListener("input", () => { state[key] = input.value; refresh(); });
    return el("label", { for: input.id }, label, input);
  }

  function select(options) {
    return el("select", {}, ...options.map(([value, text]) => el("option", { value }, text)));
  }

  function buildFilters() {
    const used = [...new Set(data.samples.map((sample) => sample.place))];
    const steps = data.samples.some((sample) => sample.step !== undefined);
    const text = (type, more = {}) => el("input", { type, autocomplete: "off", ...more });
    const fields = [
      field("run or evaluation", "place", select([["", "all"], ...used.map((i) => [String(i), data.places[i].name])])),
      field("order", "order", select(Object.entries(ORDERS))),
      steps ? field("step", "step", text("number", { min: 0 })) : null,
      steps ? field("group", "group", text("number", { min: 0 })) : null,
      field("record or library", "record", text("search")),
      field("reward from", "low", text("number", { step: "any" })),
      field("to", "high", text("number", { step: "any" })),
    ];
    $("filters").append(el("div", { class: "fields" }, ...fields.filter(Boolean)), el("div", { class: "chips", id: "chips", role: "group", "aria-label": "show only" }));
  }

  function buildChips() {
    const base = data.samples.filter((sample) => matches(sample, []));
    const counts = new Map(TAGS.map((tag) => [tag, base.filter((sample) => sample.tags.includes(tag)).length]));
    const there = TAGS.filter((tag) => counts.get(tag) || state.tags.has(tag));
    $("chips").replaceChildren(el("span", { class: "quiet" }, "show only"), ...there.map((tag) => el("button", {
      type: "button", "data-tag": tag, "aria-pressed": String(state.tags.has(tag)),
      onclick: () => { if (!state.tags.delete(tag)) state.tags.add(tag); refresh(); $("chips").querySelector(`[data-tag="${tag}"]`).focus(); },
    }, `${tag} (${counts.get(tag)})`)));
  }

  function refresh() {
    visible = data.samples.filter((sample) => matches(sample));
    const sign = { best: -1, worst: 1 }[state.order];
    if (sign) visible.sort((a, b) => sign * ((a.value ?? -Infinity) - (b.value ?? -Infinity)) || a.index - b.index);
    state.shown = FIRST;
    buildChips();
    drawList();
    if (visible.length) open(visible[0], false);
    else { current = null; $("detail").replaceChildren(el("p", {}, "No sample fits these filters.")); }
  }

  function drawList() {
    const at = visible.indexOf(current);
    state.shown = Math.max(state.shown, Math.ceil((at + 1) / FIRST) * FIRST);
    $("count").textContent = `${visible.length.toLocaleString("en")} of ${data.samples.length.toLocaleString("en")} samples`;
    $("list").replaceChildren(...visible.slice(0, state.shown).map((sample) => el("li", {}, el("button", {
      type: "button", "data-index": sample.index, "aria-current": sample === current ? "true" : false,
      onclick: () => open(sample, true),
    }, el("span", { class: "value" }, valueOf(sample)), el("span", {}, sample.asked.title || sample.asked.id,
      el("small", {}, `${sample.of.name}, ${sample.label}`),
      sample.tags.length ? el("small", {}, sample.tags.join(", ")) : null)))));
    $("more").hidden = visible.length <= state.shown;
  }

  function markCurrent() {
    const old = $("list").querySelector("[aria-current]");
    if (old) old.removeAttribute("aria-current");
    const row = current && $("list").querySelector(`[data-index="${current.index}"]`);
    if (!row) { if (visible.includes(current)) drawList(); return; }
    row.setAttribute("aria-current", "true");
    const list = $("list"); // scroll the list, never the page
    const top = row.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + row.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 3;
  }

  // --- one sample ---------------------------------------------------------------------------------------------------

  // The think part and the rest of a completion, which begins inside think if the prompt ends so.
  function parts(text) {
    const end = text.indexOf("</think>");
    if (end >= 0) return [text.slice(0, end), text.slice(end + "</think>".length), true];
    const answer = text.indexOf("<answer>");
    return answer < 0 ? ["", text, false] : [text.slice(0, answer), text.slice(answer), false];
  }

  const block = (title, ...children) => el("div", {}, el("h4", {}, title), ...children);
  const prose = (text) => el("pre", { class: "prose", tabindex: "0" }, text);
  const code = (text) => el("pre", { tabindex: "0" }, text);
  const badge = (tag) => el("span", { class: ALARMS.includes(tag) ? "badge alarm" : "badge" }, tag);

  function rewardTable(sample) {
    const total = sample.of.unit === "passed" || sample.parts.length === 1 || sample.parts.some(([name]) => name === "score" || name === "reward")
      ? [] : [["total", sample.value, "their weighted sum, which is trained on"]];
    const rows = [...sample.parts, ...total].map(([name, value, why]) =>
      el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, signed(value)), el("td", {}, why || "the log has no reason")));
    if (sample.step !== undefined) {
      const why = !sample.trained ? "none: dynamic sampling discarded this group"
        : sample.advantage === 0 ? "as good as its group: no gradient"
        : sample.advantage > 0 ? "better than its group: made more likely" : "worse than its group: made less likely";
      rows.push(el("tr", {}, el("th", { scope: "row" }, "advantage"), el("td", {}, signed(sample.advantage)), el("td", {}, why)));
    }
    const head = el("tr", {}, ...["reward", "value", "why"].map((text) => el("th", { scope: "col" }, text)));
    return el("div", { class: "scroll" }, el("table", { class: "rewards" }, el("thead", {}, head), el("tbody", {}, ...rows)));
  }

  function siblings(sample) {
    const same = data.samples.filter((other) => other.place === sample.place && other.path.length === sample.path.length &&
      sample.path.slice(0, -1).every((part, i) => other.path[i] === part));
    return el("div", { class: "group" }, ...same.map((other) => el("button", {
      type: "button", title: other.tags.join(", ") || "no remark", "aria-current": other === sample ? "true" : false, onclick: () => open(other, true),
    }, valueOf(other), other.tags.includes("copy") ? " copy" : "")));
  }

  function show(sample) {
    const at = visible.indexOf(sample), task = sample.asked;
    const [think, answer, closed] = parts(sample.text);
    const go = (by, text) => el("button", { type: "button", id: by < 0 ? "previous" : "next", disabled: visible[at + by] ? false : "", onclick: () => move(by) }, text);
    const before = sample.of.before ? ` (better and worse: than the mean of its record in ${sample.of.before})` : "";
    const children = [
      el("div", { class: "head" }, el("h3", {}, `${sample.of.name}: ${sample.label}`), el("span", {}, go(-1, "← previous"), " ", go(1, "next →")),
        el("span", { class: "quiet" }, `${at + 1} of ${visible.length}; keys ← → or k j`), el("a", { href: sample.address, id: "address" }, "address of this sample")),
      el("div", { class: "badges" }, ...sample.tags.map(badge)),
      el("h4", {}, "Reward"), rewardTable(sample),
      el("h4", {}, sample.step === undefined ? "Answers to this question" + before : "Its group"), siblings(sample),
    ];
    const columns = [block(`Question: ${[task.id, task.title].filter(Boolean).join(", ")}`, prose(task.note || "not known: the data file is not here"),
      ...(task.old ? [el("h4", {}, "Old code"), code(task.old)] : []))];
    columns.push(block(closed || !think ? "Think" : "Think (never closed)", prose(think.trim() || "(empty)"), el("h4", {}, "Answer"), code(answer.trim() || "(empty)")));
    if (sample.code !== null && task.old) columns.push(block("From the old code to the answer", sample.code === task.old ? el("p", {}, "No difference: a copy.") : diffBlock(task.old, sample.code)));
    if (sample.code !== null && task.target) columns.push(block("From the answer to the target", sample.code === task.target ? el("p", {}, "No difference.") : diffBlock(sample.code, task.target)));
    else if (task.target) columns.push(block("Target", code(task.target)));
    $("detail").replaceChildren(...children, el("div", { class: "columns" }, ...columns));
  }

  function open(sample, is_asked) {
    current = sample;
    if (!visible.includes(sample)) { resetFilters(); visible = data.samples.slice(); buildChips(); drawList(); }
    show(sample);
    markCurrent();
    if (is_asked && location.hash !== sample.address) history.replaceState(null, "", sample.address);
  }

  function resetFilters() {
    Object.assign(state, { place: "", step: "", group: "", record: "", low: "", high: "", order: "logged", tags: new Set() });
    for (const input of $("filters").querySelectorAll("input, select")) input.value = input.id === "filter-order" ? "logged" : "";
  }

  function move(by) {
    const next = visible[visible.indexOf(current) + by];
    if (!next) return;
    open(next, true);
    const button = $(by < 0 ? "previous" : "next");
    if (document.activeElement === document.body && !button.disabled) button.focus({ preventScroll: true });
  }

  // --- before and after ---------------------------------------------------------------------------------------------

  function pairRow(pair, problem, body) {
    const title = (data.tasks.find((task) => task.id === problem.id) || {}).title || "";
    const [first, last] = [problem.means[0], problem.means[problem.means.length - 1]];
    const gain = first === null || last === null ? null : last - first;
    const row = el("tr", {});
    row.append(el("th", { scope: "row" }, el("button", { type: "button", "data-problem": problem.id, onclick: () => {
      for (const other of body.querySelectorAll("tr")) other.removeAttribute("aria-selected");
      row.setAttribute("aria-selected", "true");
      showPair(pair, problem, 0);
      $("pair-detail").scrollIntoView();
    } }, problem.id)), el("td", { "data-label": "" }, title),
      ...problem.means.map((mean, i) => el("td", { "data-label": pair.places[i] }, signed(mean))), el("td", { "data-label": LAST }, signed(gain)));
    return row;
  }

  function buildPairs() {
    for (const pair of data.pairs) {
      const head = ["record", "", ...pair.places, LAST].map((text) => el("th", { scope: "col" }, text));
      const body = el("tbody", {});
      body.append(...pair.problems.map((problem) => pairRow(pair, problem, body)));
      $("pair-tables").append(el("div", { class: "scroll pair-list", tabindex: "0", role: "region", "aria-label": "records" }, el("table", { class: "cards" }, el("thead", {}, el("tr", {}, ...head)), body)));
    }
  }

  function showPair(pair, problem, n) {
    const answers = pair.places.map((name) => data.samples.filter((sample) => sample.of.name === name && sample.path[0] === problem.id));
    const most = Math.max(...answers.map((found) => found.length));
    const step = (by, text) => el("button", { type: "button", disabled: n + by < 0 || n + by >= most ? "" : false, onclick: () => showPair(pair, problem, n + by) }, text);
    const task = data.tasks.find((one) => one.id === problem.id);
    const columns = answers.map((found, i) => {
      const sample = found[n];
      if (!sample) return block(pair.places[i], el("p", {}, "This answer is not in the page."));
      return block(`${pair.places[i]}: ${valueOf(sample)}`, el("div", { class: "badges" }, ...sample.tags.map(badge)),
        sample.code === null ? prose(sample.text.trim() || "(empty)") : task.old ? diffBlock(task.old, sample.code) : code(sample.code),
        el("ul", {}, ...sample.parts.map(([name, value, why]) => el("li", {}, `${name} ${signed(value)}: ${why}`))), el("a", { href: sample.address }, "open"));
    });
    $("pair-detail").replaceChildren(el("div", { class: "head" }, el("h3", {}, `${problem.id}, answer ${n + 1} of ${most}`), el("span", {}, step(-1, "← previous answer"), " ", step(1, "next answer →"))),
      task ? el("p", {}, task.note) : el("p", {}, ""), el("p", { class: "quiet" }, task && task.old ? "From the old code to each answer:" : ""), el("div", { class: "columns" }, ...columns));
  }

  // --- start --------------------------------------------------------------------------------------------------------

  function follow() {
    if (!location.hash.startsWith("#/")) return false;
    const sample = byAddress.get(location.hash);
    if (sample) { open(sample, false); $("samples").scrollIntoView(); }
    return Boolean(sample);
  }

  if ($("samples")) {
    buildFilters();
    $("more").addEventListener("click", () => { state.shown += FIRST; drawList(); });
    refresh();
    window.addEventListener("hashchange", follow);
    follow();
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
      const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
      if (by && !event.target.closest("pre, .scroll")) { event.preventDefault(); move(by); }
    });
  }
  if ($("pairs")) buildPairs();
})();
