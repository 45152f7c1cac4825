// One sample: its rewards, its group, question and answer; how the page moves to another one.

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

function difference(title, before, after) {
  return block(
    title,
    before.trimEnd() === after.trimEnd() ? el("p", {}, "No difference.") : diffBlock(before, after),
  );
}

function rewardTable(sample) {
  const names = sample.parts.map(([name]) => name);
  const has_total =
    sample.of.unit === "passed" || names.length === 1 || names.includes("score") || names.includes("reward");
  const total = has_total ? [] : [["total", sample.value, "their weighted sum, which is trained on"]];
  const rows = [...sample.parts, ...total].map(([name, value, why]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, name),
      el("td", {}, signed(value)),
      el("td", {}, why || "the log has no reason"),
    ),
  );
  if (sample.step !== undefined) {
    const why = !sample.trained
      ? "none: dynamic sampling discarded this group"
      : sample.advantage === 0
        ? "as good as its group: no gradient"
        : sample.advantage > 0
          ? "better than its group: made more likely"
          : "worse than its group: made less likely";
    rows.push(
      el(
        "tr",
        {},
        el("th", { scope: "row" }, "advantage"),
        el("td", {}, signed(sample.advantage)),
        el("td", {}, why),
      ),
    );
  }
  const head = el("tr", {}, ...["reward", "value", "why"].map((text) => el("th", { scope: "col" }, text)));
  return el(
    "div",
    { class: "scroll" },
    el("table", { class: "rewards" }, el("thead", {}, head), el("tbody", {}, ...rows)),
  );
}

function siblings(sample) {
  const same = data.samples.filter(
    (other) =>
      other.place === sample.place &&
      other.path.length === sample.path.length &&
      sample.path.slice(0, -1).every((part, i) => other.path[i] === part),
  );
  return el(
    "div",
    { class: "group" },
    ...same.map((other) =>
      el(
        "button",
        {
          type: "button",
          title: other.tags.join(", ") || "no remark",
          "aria-current": other === sample ? "true" : false,
          onclick: () => openSample(other, true),
        },
        valueOf(other),
        other.tags.includes("copy") ? " copy" : "",
      ),
    ),
  );
}

function show(sample) {
  const at = visible.indexOf(sample),
    task = sample.asked;
  const [think, answer, closed] = parts(sample.text);
  const go = (by, text) =>
    el(
      "button",
      {
        type: "button",
        id: by < 0 ? "previous" : "next",
        disabled: visible[at + by] ? false : "",
        onclick: () => move(by),
      },
      text,
    );
  const before = sample.of.before ? ` (better and worse: than the mean of its record in ${sample.of.before})` : "";
  const children = [
    el(
      "div",
      { class: "head" },
      el("h3", {}, `${sample.of.name}: ${sample.label}`),
      el("span", {}, go(-1, "← previous"), " ", go(1, "next →")),
      el("span", { class: "quiet" }, `${at + 1} of ${visible.length}; keys ← → or k j`),
      el("a", { href: sample.address, id: "address" }, "address of this sample"),
    ),
    el("div", { class: "badges" }, ...sample.tags.map(badge)),
    el("h4", {}, "Reward"),
    rewardTable(sample),
    el("h4", {}, sample.step === undefined ? "Answers to this question" + before : "Its group"),
    siblings(sample),
  ];
  const old = task.old ? [el("h4", {}, "Old code"), code(task.old)] : [];
  const question = `Question: ${[task.id, task.title].filter(Boolean).join(", ")}`;
  const thought = closed || !think ? "Think" : "Think (never closed)";
  const columns = [
    block(question, prose(task.note || "not known: the data file is not here"), ...old),
    block(thought, prose(think.trim() || "(empty)"), el("h4", {}, "Answer"), code(answer.trim() || "(empty)")),
  ];
  if (sample.code !== null && task.old)
    columns.push(difference("From the old code to the answer", task.old, sample.code));
  if (sample.code !== null && task.target)
    columns.push(difference("From the answer to the target", sample.code, task.target));
  else if (task.target) columns.push(block("Target", code(task.target)));
  $("detail").replaceChildren(...children, el("div", { class: "columns" }, ...columns));
}

function openSample(sample, is_asked) {
  current = sample;
  if (!visible.includes(sample)) {
    resetFilters();
    visible = data.samples.slice();
    buildChips();
    drawList();
  }
  show(sample);
  markCurrent();
  if (is_asked && location.hash !== sample.address) history.replaceState(null, "", sample.address);
}

function resetFilters() {
  Object.assign(state, {
    place: "",
    step: "",
    group: "",
    record: "",
    low: "",
    high: "",
    order: "logged",
    tags: new Set(),
  });
  for (const input of $("filters").querySelectorAll("input, select"))
    input.value = input.id === "filter-order" ? "logged" : "";
}

function move(by) {
  const next = visible[visible.indexOf(current) + by];
  if (!next) return;
  openSample(next, true);
  const button = $(by < 0 ? "previous" : "next");
  if (document.activeElement === document.body && !button.disabled) button.focus({ preventScroll: true });
}
