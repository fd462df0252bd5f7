// Filters and orders the list of wrong answers, and saves the figures. Without it the page shows all.
(() => {
  "use strict";
  const save = document.getElementById("save");
  save.hidden = false;
  save.addEventListener("click", () => {
    const figures = JSON.parse(document.getElementById("report").textContent);
    const link = document.createElement("a");
    const text = JSON.stringify(figures, null, 2) + "\n";
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "report.json";
    link.click();
    URL.revokeObjectURL(link.href);
  });

  const form = document.getElementById("filters");
  if (!form) return;
  const list = document.getElementById("wrong");
  const found = form.querySelector("output");
  const choices = ["model", "head", "truth", "predicted", "repo"];
  const items = [...list.children].map((element, place) => ({
    element,
    place,
    data: element.dataset,
    words: element.textContent.toLowerCase(),
    probability: Number(element.dataset.probability || -1),
  }));
  const byIssue = (a, b) =>
    a.data.repo.localeCompare(b.data.repo) || a.data.number - b.data.number || a.place - b.place;
  const orders = {
    falling: (a, b) => a.place - b.place,
    rising: (a, b) => a.probability - b.probability || a.place - b.place,
    issue: byIssue,
  };

  for (const choice of choices) {
    const select = form.elements[choice];
    const values = [...new Set(items.map((item) => item.data[choice]))].sort();
    for (const value of values) select.add(new Option(value, value));
    if (values.length < 2) select.parentElement.hidden = true;
  }

  let order = "falling";
  const show = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (item) =>
      choices.every((c) => !form.elements[c].value || form.elements[c].value === item.data[c]) &&
      words.every((word) => item.words.includes(word));
    let shown = 0;
    for (const item of items) {
      item.element.hidden = !matches(item);
      shown += !item.element.hidden;
    }
    if (form.elements.order.value !== order) {
      order = form.elements.order.value;
      list.append(...items.toSorted(orders[order]).map((item) => item.element));
    }
    found.value = `${shown} of ${items.length}`;
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  // The fields have their first values only after the event.
  form.addEventListener("reset", () => setTimeout(show));

  // A pair of confused labels leads to its errors.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-filter-head]");
    if (!link) return;
    form.reset();
    for (const choice of ["model", "head", "truth", "predicted"]) {
      const name = "filter" + choice[0].toUpperCase() + choice.slice(1);
      form.elements[choice].value = link.dataset[name];
    }
    show();
  });

  form.hidden = false;
  show();
})();
