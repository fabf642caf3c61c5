// A click on a header sorts, another one turns the order round; what is missing comes last.
function sortBy(header) {
  const table = header.closest("table");
  const column = [...header.parentNode.children].indexOf(header);
  const turn = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const keyOf = (line) => {
    const { value } = line.children[column].dataset;
    return value === undefined ? line.children[column].textContent : value && Number(value);
  };
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return turn * (typeof a === "number" ? a - b : a.localeCompare(b));
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort((a, b) => compare(keyOf(a), keyOf(b))));
  for (const other of header.parentNode.children) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
}

for (const button of document.querySelectorAll(".sortable th button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

find("initial-shown")?.addEventListener("change", (event) => {
  find("summary-table").classList.toggle("with-initial", event.target.checked);
});

find("download").addEventListener("click", () => {
  const text = records.map((record) => `${JSON.stringify(record)}\n`).join("");
  const address = URL.createObjectURL(new Blob([text], { type: "application/jsonl" }));
  element("a", { href: address, download: "rows.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
});
