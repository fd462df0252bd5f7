// Builds parts of the page.

export const element = (name, properties = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
};

// A definition, in which `this` is code.
export const prose = (text) =>
  text.split("`").map((part, i) => (i % 2 ? element("code", {}, part) : part));

// What the annotators chose between whom this one decides, side by side; `adopt` takes one's place.
export const readingsTable = (heads, readings, adopt) => {
  const header = element("tr", {}, element("td"));
  readings.forEach((reading, i) => {
    const key = element("kbd", {}, "xy"[i]);
    const button = element("button", { type: "button" }, `Take ${reading.name}’s `, key);
    button.addEventListener("click", () => adopt(i));
    header.append(element("th", { scope: "col" }, button));
  });
  const said = (name) => readings.map((reading) => reading.label[name] ?? "–");
  const rows = heads.map((head) => {
    const values = said(head.name);
    const differs = new Set(values).size > 1;
    const cells = values.map((value) => element("td", {}, value.replaceAll("_", " ")));
    const title = `${head.title}${differs ? " ≠" : ""}`;
    const row = element("tr", {}, element("th", { scope: "row" }, title), ...cells);
    row.className = differs ? "differs" : "";
    return row;
  });
  for (const name of ["confidence", "note"]) {
    if (!readings.some((reading) => reading.label[name])) continue;
    const cells = said(name).map((value) => element("td", {}, value));
    rows.push(element("tr", {}, element("th", { scope: "row" }, name), ...cells));
  }
  const caption = element("caption", {}, "What the two annotators chose");
  return element("table", {}, caption, element("thead", {}, header), element("tbody", {}, ...rows));
};
