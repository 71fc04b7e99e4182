// Keys: j/k move between rows, Enter opens (the row's own link has the focus), [ ] change the week,
// n goes to the note's field, / to the search field, ? shows the keys. Without this file every page works the same by mouse and Tab.
(() => {
  "use strict";
  // One link a row, its first: a row's other links are reached by Tab.
  const rowLinks = () => [...document.querySelectorAll("[data-row]")].map((row) => row.querySelector("a")).filter(Boolean);

  const move = (step) => {
    const links = rowLinks();
    if (!links.length) return;
    const row = document.activeElement.closest("[data-row]");
    const at = row ? links.findIndex((link) => row.contains(link)) : -1;
    const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + step, 0), links.length - 1);
    links[next].focus();
    links[next].closest("[data-row]").scrollIntoView({ block: "nearest" });
  };

  const follow = (rel) => {
    const link = document.querySelector(`a[rel="${rel}"]`);
    if (link) location.assign(link.href);
  };

  const keys = () => document.getElementById("keys");
  const actions = {
    j: () => move(1),
    k: () => move(-1),
    n: () => document.querySelector("[data-note]")?.focus(),
    "[": () => follow("prev"),
    "]": () => follow("next"),
    "/": () => document.getElementById("search").focus(),
    "?": () => keys().showModal(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (keys().open || !Object.hasOwn(actions, event.key)) return;
    event.preventDefault();
    actions[event.key]();
  });

  document.querySelector("[data-keys-open]").addEventListener("click", () => keys().showModal());

  // Empty fields stay out of the address, so that a filtered list has one short URL.
  for (const form of document.querySelectorAll("form[action]:not([method=post])")) {
    form.addEventListener("formdata", (event) => {
      for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
    });
  }
})();
