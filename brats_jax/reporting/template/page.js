"use strict";
// A click, Enter or Space on the head of a column sorts the table; the third restores its order.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const body = table.tBodies[0];
  const rows = [...body.rows];
  if (rows.length < 2) continue;
  const key = (row, k) => {
    const cell = row.cells[k];
    const given = cell.dataset.value;
    if (given === undefined) return cell.textContent.trim();
    return given === "" ? null : isNaN(Number(given)) ? given : Number(given);
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number"
      ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true });
  heads.forEach((head, k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.title = "Sort by " + head.dataset.name;
    head.textContent = "";
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      for (const other of heads) other.removeAttribute("aria-sort");
      const sorted = [...rows];
      if (before !== "descending") {
        const sign = before === "ascending" ? -1 : 1;
        head.setAttribute("aria-sort", before === "ascending" ? "descending" : "ascending");
        sorted.sort((a, b) => {
          const [x, y] = [key(a, k), key(b, k)];
          // Undefined values stay at the end in both directions.
          if (x === null || y === null) return (x === null) - (y === null);
          return sign * compare(x, y);
        });
      }
      body.append(...sorted);
    });
  });
}
// A table that is still wider than the page says so above it, and fades at the cut edge.
for (const box of document.querySelectorAll(".frame > .scroll")) {
  const table = box.querySelector("table");
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const hint = document.getElementById(table.id + "-hint");
  const look = () => {
    const hidden = box.scrollWidth - box.clientWidth;
    const right = box.getBoundingClientRect().right + 1;
    const cut = heads.filter((head) => head.getBoundingClientRect().right > right).length;
    hint.hidden = hidden <= 1;
    hint.textContent = cut
      ? `Scroll the table sideways: ${cut} of ${heads.length} columns are further to the right \u2192`
      : "\u2190 Scroll the table back: columns are further to the left";
    box.parentElement.classList.toggle("cut", hidden > 1 && cut > 0);
  };
  box.addEventListener("scroll", look);
  new ResizeObserver(look).observe(box); // also when a folded table opens
}
// Folded parts open for printing, and when a link points into them.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of folded) one.open = false;
});
const reveal = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const closed = target && target.closest("details:not([open])");
  if (closed) {
    closed.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", reveal);
reveal();
if (matchMedia("(max-width: 70rem)").matches) document.querySelector("nav details").open = false;
