// The page of `faultlens annotate`: shows an issue, takes its labels by keyboard, saves them.
import { get, idOf, nameOf, post } from "./server.js";
import { element, prose, readingsTable } from "./elements.js";
import { connectDialogs, idIn } from "./dialogs.js";

const $ = (id) => document.getElementById(id);
// Letters with a meaning of their own are no keys of labels.
const KEYS = [..."123456789acdfimpqrtvwz"];

let setup;
let issue = null;
let labels = []; // by head, an index or null
let confidence = "high";
let open = 0; // the head that keys answer
let visited = []; // names of issues, for Back
let at = -1;
let busy = false;

// One thing at a time: a key pressed while a label is being saved means the issue that is shown.
const during = (action) => async (...given) => {
  if (busy) return;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    tell("");
    await action(...given);
  } catch (error) {
    tell(error.message);
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
};

const tell = (text) => {
  $("message").textContent = text;
  $("message").hidden = !text;
};

// ---- building what is shown

const build = () => {
  $("mode").textContent = `${setup.decides ? "adjudicate" : "annotate"} as ${setup.annotator}`;
  document.body.classList.toggle("decides", setup.decides);
  $("heads").replaceChildren(
    ...setup.heads.map((head, h) => {
      const buttons = head.labels.map((label, l) => {
        const key = KEYS[l];
        const button = element(
          "button",
          { type: "button", role: "radio", tabIndex: -1, "aria-checked": "false" },
          key ? element("kbd", {}, key) : null,
          ` ${label.name.replaceAll("_", " ")}`,
        );
        button.addEventListener("click", () => choose(h, l));
        button.addEventListener("focus", () => {
          open = h;
          mark();
          explain(h, l);
        });
        button.addEventListener("pointerenter", () => explain(h, l));
        return button;
      });
      const group = element("div", { role: "radiogroup", "aria-label": head.title }, ...buttons);
      const legend = element("legend", {}, head.title);
      legend.addEventListener("click", () => openHead(h));
      return element("fieldset", {}, legend, group);
    }),
  );
};

const buttonsOf = (h) => [...$("heads").children[h].querySelectorAll("button")];
const applies = (h) => {
  const condition = setup.heads[h].applies_when;
  return !condition || condition[1].includes(labels[condition[0]]);
};
const isMissing = (h) => applies(h) && labels[h] === null;
const firstMissing = () => setup.heads.findIndex((_, h) => isMissing(h));

const openHead = (h) => {
  open = h;
  mark();
  buttonsOf(h)[labels[h] ?? 0].focus({ preventScroll: true });
};

const mark = () => {
  setup.heads.forEach((_, h) => {
    const fieldset = $("heads").children[h];
    fieldset.hidden = !applies(h);
    fieldset.classList.toggle("open", h === open);
    buttonsOf(h).forEach((button, l) => {
      button.setAttribute("aria-checked", labels[h] === l);
      button.tabIndex = l === (labels[h] ?? 0) ? 0 : -1;
    });
  });
  for (const button of $("certainty").querySelectorAll("button")) {
    const chosen = button.dataset.confidence === confidence;
    button.setAttribute("aria-checked", chosen);
    button.tabIndex = chosen ? 0 : -1;
  }
  $("save").disabled = firstMissing() >= 0;
};

const explain = (h, l) => {
  const head = setup.heads[h];
  const label = head.labels[l];
  const parts = label
    ? [
        element("h3", {}, `${head.title}: ${label.title}`),
        element("p", {}, ...prose(label.definition)),
      ]
    : [element("h3", {}, head.title), element("p", {}, ...prose(head.definition))];
  if (label?.rules?.length) {
    parts.push(element("ul", {}, ...label.rules.map((rule) => element("li", {}, ...prose(rule)))));
  }
  $("codebook").replaceChildren(...parts);
};

const show = (next) => {
  issue = next;
  $("work").hidden = !issue;
  $("done").hidden = !!issue;
  if (!issue) {
    document.title = "All labelled – faultlens";
    $("done").querySelector("h2").focus();
    return;
  }
  if (visited[at] !== nameOf(issue)) {
    visited = [...visited.slice(0, at + 1), nameOf(issue)];
    at = visited.length - 1;
  }
  const [name, link] = $("name").children;
  name.textContent = issue.created_at
    ? `${nameOf(issue)}, ${issue.created_at.slice(0, 10)}`
    : nameOf(issue);
  link.hidden = !issue.url;
  if (issue.url) link.href = issue.url;
  document.title = `${nameOf(issue)} – faultlens`;
  $("title").textContent = issue.title || "(no title)";
  // The server has taken everything out of it that could run, load or lead astray.
  $("body").innerHTML = issue.html || "<p><em>(no text)</em></p>";
  showReadings();
  take(issue.label);
  open = Math.max(0, firstMissing());
  mark();
  explain(open);
  $("issue").scrollTop = 0;
  window.scrollTo(0, 0);
  $("issue").focus({ preventScroll: true });
  if (issue.label) tell("You have labelled this issue. Saving replaces that label.");
  else if (setup.suggest) suggest(issue);
};

// The labels of a line of a file, or none.
const take = (line) => {
  labels = setup.heads.map((head) => {
    const index = line ? head.labels.findIndex((label) => label.name === line[head.name]) : -1;
    return index < 0 ? null : index;
  });
  confidence = line?.confidence ?? "high";
  $("note").value = line?.note ?? "";
};

const showReadings = () => {
  $("readings").hidden = !issue.readings.length;
  $("readings").replaceChildren(readingsTable(setup.heads, issue.readings, adopt));
};

// ---- what the annotator does

const choose = (h, l) => {
  labels[h] = l;
  setup.heads.forEach((_, other) => {
    if (!applies(other)) labels[other] = null;
  });
  const missing = firstMissing();
  open = missing < 0 ? h : missing;
  mark();
  if (missing < 0) {
    $("save").focus({ preventScroll: true });
    explain(h, l);
  } else {
    openHead(missing);
    explain(missing);
  }
};

const adopt = (i) => {
  if (!issue?.readings[i]) return;
  // Note and confidence are the own ones.
  take({ ...issue.readings[i].label, note: $("note").value, confidence });
  open = Math.max(0, firstMissing());
  mark();
  $("save").focus({ preventScroll: true });
};

const beSure = (how) => {
  confidence = how;
  mark();
};

const save = during(async () => {
  const missing = firstMissing();
  if (missing >= 0) throw new Error(`${setup.heads[missing].title} is not answered yet.`);
  const given = {};
  setup.heads.forEach((head, h) => {
    if (labels[h] !== null) given[head.name] = head.labels[labels[h]].name;
  });
  const saved = issue;
  const note = $("note").value;
  const status = await post("label", { ...idOf(saved), labels: given, confidence, note });
  report(status);
  const words = Object.values(given).map((name) => name.replaceAll("_", " "));
  $("last").replaceChildren(`Saved ${nameOf(saved)}: ${words.join(" · ")}. `);
  $("last").hidden = false;
  compare(saved, given);
  const next = await get("next", idOf(saved));
  at = visited.length - 1;
  show(next.issue);
});

// Beside the label just saved, which is on disk: what the model says.
const compare = async (saved, given) => {
  if (!setup.model && !setup.reviews) return;
  const said = await get("suggestion", idOf(saved)).catch(() => null);
  if (!said || !$("last").textContent.startsWith(`Saved ${nameOf(saved)}:`)) return;
  $("last").append(...describe(said, given));
};

const describe = (said, given) => {
  const parts = [];
  for (const { head, annotated, predicted, predicted_probability: p } of said.suspects) {
    parts.push(`${head} was ${annotated}, cross-validation says ${predicted} ${p.toFixed(2)}. `);
  }
  if (Object.keys(said.labels).length) parts.push("The model says: ");
  setup.heads.forEach(({ name: head }, i) => {
    const label = said.labels[head];
    if (!label) return;
    const differs = given && label !== (given[head] ?? "none");
    const text = `${label.replaceAll("_", " ")} ${said.probabilities[head].toFixed(2)}`;
    parts.push(i ? " · " : "", differs ? element("strong", {}, `≠ ${text}`) : text);
  });
  return parts;
};

const suggest = async (shown) => {
  const said = await get("suggestion", idOf(shown)).catch(() => null);
  if (!said || issue !== shown) return;
  $("last").replaceChildren(...describe(said));
  $("last").hidden = false;
  if (labels.some((label) => label !== null)) return;
  take({ ...said.labels, note: $("note").value, confidence });
  mark();
};

const skip = during(async () => {
  if (!issue) return;
  await post("skip", idOf(issue));
  const next = await get("next", idOf(issue));
  report(next.status);
  if (!next.issue) throw new Error("No other issue is left.");
  at = visited.length - 1;
  show(next.issue);
});

const undo = during(async () => {
  const { undone, status } = await post("undo");
  report(status);
  if (!undone) throw new Error("There is no label to undo.");
  show(undone.issue);
  if (!undone.issue.label) {
    take(undone.label);
    mark();
  }
  $("last").replaceChildren(`Undone: the label of ${nameOf(undone.issue)} is withdrawn.`);
  $("last").hidden = false;
});

const back = during(async () => {
  const target = issue ? at - 1 : at;
  if (target < 0) throw new Error("There is no issue before.");
  const earlier = await get("issue", idIn(visited[target]));
  at = target;
  show(earlier);
});

const go = during(async (id) => show(await get("issue", id)));

const scroll = (share) => {
  const pane = $("issue");
  const inner = pane.scrollHeight > pane.clientHeight + 1;
  if (inner) pane.scrollBy({ top: share * pane.clientHeight });
  else window.scrollBy({ top: share * window.innerHeight });
};

const unfold = () => {
  const parts = [...$("body").querySelectorAll("details")];
  const opened = parts.some((part) => !part.open);
  for (const part of parts) part.open = opened;
};

const { openFinder, openJumper } = connectDialogs({ shown: () => issue, show, go });

// ---- keys

// Moves the look at labels, or at questions.
const move = (heads, steps) => {
  let h = open;
  if (heads) {
    do h += heads;
    while (setup.heads[h] && !applies(h));
    if (!setup.heads[h]) return;
    openHead(h);
    return;
  }
  const buttons = buttonsOf(h);
  const now = buttons.indexOf(document.activeElement);
  const next = now < 0 ? (labels[h] ?? 0) : (now + steps + buttons.length) % buttons.length;
  buttons[next].focus();
};

const actions = {
  u: undo,
  s: skip,
  b: back,
  h: () => beSure("high"),
  l: () => beSure("low"),
  n: () => $("note").focus(),
  "/": openFinder,
  g: openJumper,
  "?": () => $("keys").showModal(),
  j: () => scroll(0.5),
  k: () => scroll(-0.5),
  e: unfold,
  o: () => issue?.url && $("name").querySelector("a").click(),
  x: () => adopt(0),
  y: () => adopt(1),
  PageDown: () => scroll(0.9),
  PageUp: () => scroll(-0.9),
  ArrowDown: () => move(0, 1),
  ArrowUp: () => move(0, -1),
  ArrowRight: () => move(1),
  ArrowLeft: () => move(-1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (!setup || document.querySelector("dialog[open]")) return;
  const active = document.activeElement;
  if (active === $("note")) {
    if (event.key === "Escape") $("issue").focus();
    return; // Enter submits the form
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const label = KEYS.indexOf(key);
  let action = actions[key];
  if (label >= 0 && issue && setup.heads[open].labels[label]) action = () => choose(open, label);
  if (key === "Enter" && issue && firstMissing() < 0 && !active.closest("a, summary, nav, #readings")) {
    action = save;
  }
  if (!action || event.repeat === true && key.length === 1 && !"jk".includes(key)) return;
  event.preventDefault();
  if (!busy) action();
});

$("choice").addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
for (const button of $("certainty").querySelectorAll("button")) {
  button.addEventListener("click", () => beSure(button.dataset.confidence));
}
$("back").addEventListener("click", back);
$("skip").addEventListener("click", skip);
$("undo").addEventListener("click", undo);
$("search").addEventListener("click", openFinder);
$("jump").addEventListener("click", openJumper);
$("help").addEventListener("click", actions["?"]);

// ---- how far it is

const report = (status) => {
  $("bar").max = Math.max(1, status.total);
  $("bar").value = status.done;
  const parts = [`${status.done} of ${status.total} done`];
  if (status.given) parts.push(`${status.given} now`);
  if (status.seconds_each !== null) parts.push(`${Math.round(status.seconds_each)} s each`);
  if (status.skipped) parts.push(`${status.skipped} skipped`);
  const { embedded, pool, labels: fitted } = status.learning;
  if (pool && embedded < pool) parts.push(`read ${embedded} of ${pool}`);
  if (fitted !== null) parts.push(`ranked by ${fitted} labels`);
  const progress = parts.join(" · ");
  if ($("progress").textContent !== progress) $("progress").textContent = progress;
  const figure = (value) => (value === null ? "–" : value.toFixed(2));
  const pairs = status.agreement.map((pair) => {
    const heads = pair.heads.map((head) => `${head.head} ${figure(head.kappa)}`).join(", ");
    return `${pair.first} and ${pair.second} on ${pair.issues} issues, kappa: ${heads}`;
  });
  $("agreement").textContent = pairs.join("; ");
};

const watch = async () => {
  if (document.hidden || busy) return;
  await get("status").then(report, (error) => tell(error.message));
};

during(async () => {
  setup = await get("setup");
  build();
  const next = await get("next");
  report(next.status);
  show(next.issue);
  setInterval(watch, 3000);
})();
