// What the page does when it opens, and on keys. Its parts are in the other scripts, which come before this one.

function follow() {
  if (!location.hash.startsWith("#/")) return false;
  const sample = byAddress.get(location.hash);
  if (sample) {
    openSample(sample, false);
    $("samples").scrollIntoView();
  }
  return Boolean(sample);
}

if ($("samples")) {
  buildFilters();
  $("more").addEventListener("click", () => {
    state.shown += FIRST;
    drawList();
  });
  refresh();
  window.addEventListener("hashchange", follow);
  follow();
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
    const scrolls = event.key.startsWith("Arrow") && event.target.closest("pre, .scroll"); // sideways, with these keys
    if (by && !scrolls) {
      event.preventDefault();
      move(by);
    }
  });
}
if ($("pairs")) buildPairs();
