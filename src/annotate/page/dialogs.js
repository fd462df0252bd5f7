// Search, and going to an issue by name.
import { get, idOf, nameOf } from "./server.js";
import { element } from "./elements.js";

const $ = (id) => document.getElementById(id);

// owner/name#12, #12, 12 or an address.
export const idIn = (text, repo) => {
  const found = text.trim().match(/^(?:.*github\.com\/)?([\w.-]+\/[\w.-]+)(?:#|\/issues\/)(\d+)$/);
  if (found) return { repo: found[1], number: Number(found[2]) };
  const number = text.trim().match(/^#?(\d+)$/);
  return number && repo ? { repo, number: Number(number[1]) } : null;
};

// `shown` gives the issue that is shown, `show` shows another, `go` fetches and shows one. Gives what opens
// each dialog.
export const connectDialogs = ({ shown, show, go }) => {
  let searched = 0;
  const find = async () => {
    const mine = ++searched;
    const found = await get("search", { words: $("words").value }).catch(() => []);
    if (mine !== searched) return;
    $("found").replaceChildren(
      ...found.map((one) => {
        const name = `${one.labelled ? "✓ " : ""}${nameOf(one)} `;
        const button = element("button", { type: "button" }, name, element("span", {}, one.title));
        button.addEventListener("click", () => {
          $("finder").close();
          go(idOf(one));
        });
        return element("li", {}, button);
      }),
    );
  };
  const openFinder = () => {
    $("words").value = "";
    $("found").replaceChildren();
    $("finder").showModal();
  };
  const openJumper = () => {
    $("target").value = "";
    $("missing").textContent = "";
    $("jumper").showModal();
  };

  $("words").addEventListener("input", find);
  $("finder").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const buttons = [...$("found").querySelectorAll("button")];
    if (step) {
      event.preventDefault();
      const next = buttons.indexOf(document.activeElement) + step;
      if (next < 0) $("words").focus();
      else buttons[Math.min(next, buttons.length - 1)]?.focus();
    } else if (event.key === "Enter" && document.activeElement === $("words")) {
      event.preventDefault();
      find().then(() => $("found").querySelector("button")?.click());
    }
  });
  $("jumper").addEventListener("keydown", async (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const id = idIn($("target").value, shown()?.repo);
    try {
      if (!id) throw new Error("Write it as owner/name#12.");
      const found = await get("issue", id);
      $("jumper").close();
      show(found);
    } catch (error) {
      $("missing").textContent = error.message;
    }
  });

  return { openFinder, openJumper };
};
