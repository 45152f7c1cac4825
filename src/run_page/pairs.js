// Evaluations of the same problems, answer by answer.

function pairRow(pair, problem, body) {
  const title = (data.tasks.find((task) => task.id === problem.id) || {}).title || "";
  const [first, last] = [problem.means[0], problem.means[problem.means.length - 1]];
  const gain = first === null || last === null ? null : last - first;
  const row = el("tr", {});
  row.append(
    el(
      "th",
      { scope: "row" },
      el(
        "button",
        {
          type: "button",
          "data-problem": problem.id,
          onclick: () => {
            for (const other of body.querySelectorAll("tr")) other.removeAttribute("aria-selected");
            row.setAttribute("aria-selected", "true");
            showPair(pair, problem, 0);
            $("pair-detail").scrollIntoView();
          },
        },
        problem.id,
      ),
    ),
    el("td", { "data-label": "" }, title),
    ...problem.means.map((mean, i) => el("td", { "data-label": pair.places[i] }, signed(mean))),
    el("td", { "data-label": LAST }, signed(gain)),
  );
  return row;
}

function buildPairs() {
  for (const pair of data.pairs) {
    const head = ["record", "", ...pair.places, LAST].map((text) => el("th", { scope: "col" }, text));
    const body = el("tbody", {});
    body.append(...pair.problems.map((problem) => pairRow(pair, problem, body)));
    $("pair-tables").append(
      el(
        "div",
        { class: "scroll pair-list", tabindex: "0", role: "region", "aria-label": "records" },
        el("table", { class: "cards" }, el("thead", {}, el("tr", {}, ...head)), body),
      ),
    );
  }
}

function showPair(pair, problem, n) {
  const answers = pair.places.map((name) =>
    data.samples.filter((sample) => sample.of.name === name && sample.path[0] === problem.id),
  );
  const most = Math.max(1, ...answers.map((found) => found.length));
  const step = (by, text) =>
    el(
      "button",
      {
        type: "button",
        id: by < 0 ? "previous-answer" : "next-answer",
        disabled: n + by < 0 || n + by >= most ? "" : false,
        onclick: () => {
          showPair(pair, problem, n + by);
          $(by < 0 ? "previous-answer" : "next-answer").focus(); // the old button is gone
        },
      },
      text,
    );
  const task = data.tasks.find((one) => one.id === problem.id);
  const columns = answers.map((found, i) => {
    const sample = found[n];
    if (!sample) return block(pair.places[i], el("p", {}, "This answer is not in the page."));
    return block(
      `${pair.places[i]}: ${valueOf(sample)}`,
      el("div", { class: "badges" }, ...sample.tags.map(badge)),
      sample.code === null
        ? prose(sample.text.trim() || "(empty)")
        : task.old
          ? diffBlock(task.old, sample.code)
          : code(sample.code),
      el("ul", {}, ...sample.parts.map(([name, value, why]) => el("li", {}, `${name} ${signed(value)}: ${why}`))),
      el("a", { href: sample.address }, "open"),
    );
  });
  $("pair-detail").replaceChildren(
    el(
      "div",
      { class: "head" },
      el("h3", {}, `${problem.id}, answer ${n + 1} of ${most}`),
      el("span", {}, step(-1, "← previous answer"), " ", step(1, "next answer →")),
    ),
    task ? el("p", {}, task.note) : el("p", {}, ""),
    el("p", { class: "quiet" }, task && task.old ? "From the old code to each answer:" : ""),
    el("div", { class: "columns" }, ...columns),
  );
}
