// The samples, the filters over them, and the list of those that fit.

const data = JSON.parse(document.getElementById("data").textContent);
const FIRST = 200; // rows of the list until more are asked for
const TAGS = [
  "copy",
  "best of its group",
  "equals the target",
  "does not parse",
  "no answer",
  "better than before",
  "worse than before",
  "passes",
  "fails",
  "cut at the length limit",
];
const ALARMS = ["copy", "does not parse", "no answer", "worse than before", "fails", "cut at the length limit"];
const LAST = "last - first";
const ORDERS = { logged: "as logged", best: "best first", worst: "worst first" };
const $ = (id) => document.getElementById(id);

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

const state = {
  place: "",
  step: "",
  group: "",
  record: "",
  low: "",
  high: "",
  order: "logged",
  tags: new Set(),
  shown: FIRST,
};
let visible = [],
  current = null;

function matches(sample, tags = state.tags) {
  const is = (wanted, value) => wanted === "" || String(value) === wanted;
  return (
    is(state.place, sample.place) &&
    is(state.step, sample.step) &&
    is(state.group, sample.step === undefined ? "" : sample.path[1]) &&
    (state.record === "" ||
      (sample.asked.id + " " + sample.asked.title).toLowerCase().includes(state.record.toLowerCase())) &&
    (state.low === "" || (sample.value !== null && sample.value >= Number(state.low))) &&
    (state.high === "" || (sample.value !== null && sample.value <= Number(state.high))) &&
    [...tags].every((tag) => sample.tags.includes(tag))
  );
}

function field(label, key, input) {
  input.id = "filter-" + key;
  input.addEventListener("input", () => {
    state[key] = input.value;
    refresh();
  });
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
    field(
      "run or evaluation",
      "place",
      select([["", "all"], ...used.map((i) => [String(i), data.places[i].name])]),
    ),
    field("order", "order", select(Object.entries(ORDERS))),
    steps ? field("step", "step", text("number", { min: 0 })) : null,
    steps ? field("group", "group", text("number", { min: 0 })) : null,
    field("record or library", "record", text("search")),
    field("reward from", "low", text("number", { step: "any" })),
    field("to", "high", text("number", { step: "any" })),
  ];
  $("filters").append(
    el("div", { class: "fields" }, ...fields.filter(Boolean)),
    el("div", { class: "chips", id: "chips", role: "group", "aria-label": "show only" }),
  );
}

function buildChips() {
  const base = data.samples.filter((sample) => matches(sample, []));
  const counts = new Map(TAGS.map((tag) => [tag, base.filter((sample) => sample.tags.includes(tag)).length]));
  const there = TAGS.filter((tag) => counts.get(tag) || state.tags.has(tag));
  $("chips").replaceChildren(
    el("span", { class: "quiet" }, "show only"),
    ...there.map((tag) =>
      el(
        "button",
        {
          type: "button",
          "data-tag": tag,
          "aria-pressed": String(state.tags.has(tag)),
          onclick: () => {
            if (!state.tags.delete(tag)) state.tags.add(tag);
            refresh();
            $("chips").querySelector(`[data-tag="${tag}"]`).focus();
          },
        },
        `${tag} (${counts.get(tag)})`,
      ),
    ),
  );
}

function refresh() {
  visible = data.samples.filter((sample) => matches(sample));
  const sign = { best: -1, worst: 1 }[state.order];
  if (sign) visible.sort((a, b) => sign * ((a.value ?? -Infinity) - (b.value ?? -Infinity)) || a.index - b.index);
  state.shown = FIRST;
  buildChips();
  drawList();
  if (visible.length) openSample(visible[0], false);
  else {
    current = null;
    $("detail").replaceChildren(el("p", {}, "No sample fits these filters."));
  }
}

function drawList() {
  const at = visible.indexOf(current);
  state.shown = Math.max(state.shown, Math.ceil((at + 1) / FIRST) * FIRST);
  $("count").textContent =
    `${visible.length.toLocaleString("en")} of ${data.samples.length.toLocaleString("en")} samples`;
  $("list").replaceChildren(
    ...visible.slice(0, state.shown).map((sample) =>
      el(
        "li",
        {},
        el(
          "button",
          {
            type: "button",
            "data-index": sample.index,
            "aria-current": sample === current ? "true" : false,
            onclick: () => openSample(sample, true),
          },
          el("span", { class: "value" }, valueOf(sample)),
          el(
            "span",
            {},
            sample.asked.title || sample.asked.id,
            el("small", {}, `${sample.of.name}, ${sample.label}`),
            sample.tags.length ? el("small", {}, sample.tags.join(", ")) : null,
          ),
        ),
      ),
    ),
  );
  $("more").hidden = visible.length <= state.shown;
}

function markCurrent() {
  const old = $("list").querySelector("[aria-current]");
  if (old) old.removeAttribute("aria-current");
  const row = current && $("list").querySelector(`[data-index="${current.index}"]`);
  if (!row) {
    if (visible.includes(current)) drawList();
    return;
  }
  row.setAttribute("aria-current", "true");
  const list = $("list"); // scroll the list, never the page
  const top = row.offsetTop - list.offsetTop;
  if (top < list.scrollTop || top + row.offsetHeight > list.scrollTop + list.clientHeight)
    list.scrollTop = top - list.clientHeight / 3;
}
