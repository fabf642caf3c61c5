// One image: all its transmissions, and how it ranks among the others.
const identity = (row) => `${row.image} ${row.image_hash}`;
const sent = [...new Map(rows.map((row) => [identity(row), row])).values()];

function chosenRows() {
  const wanted = identity(sent[find("chosen").value]);
  return rows.filter((row) => identity(row) === wanted);
}

function showTransmissions() {
  const number = (value, text = String(value)) => element("td", { "data-value": value }, text);
  const text = (value) => element("td", { class: "text" }, value);
  const figure = (row, { name, digits }) => {
    const before = row[`${name}_initial`] ?? null;
    const aside = before === null ? [] : [
      element("span", { class: "aside" }, `${fixed(before, digits)} → `),
    ];
    return element("td", { "data-value": row[name] ?? "" }, ...aside, fixed(row[name], digits));
  };
  const lines = chosenRows().map((row) => element("tr", {},
    text(row.outage ? `${row.scheme} (outage)` : row.scheme),
    text(row.channel),
    number(row.rate, row.nominal_rate),
    number(row.channel_uses, row.channel_uses.toLocaleString("en")),
    number(row.nominal_snr_db),
    number(row.snr_db, fixed(row.snr_db, 2)),
    number(row.repeat),
    ...data.merits.map((merit) => figure(row, merit)),
    ...(data.captioned ? [text(row.caption ?? "–")] : [])));
  find("transmissions").tBodies[0].replaceChildren(...lines);
  for (const header of find("transmissions").tHead.rows[0].children) {
    header.setAttribute("aria-sort", "none");
  }
}

// Mean of a figure by cell, then by image.
function meansOf(name) {
  const cells = new Map();
  for (const row of rows) {
    if (row[name] === null) continue;
    const cell = JSON.stringify([row.scheme, pointOf(row)]);
    if (!cells.has(cell)) cells.set(cell, new Map());
    const values = cells.get(cell);
    values.set(identity(row), [...(values.get(identity(row)) ?? []), row[name]]);
  }
  for (const values of cells.values()) {
    for (const [image, all] of values) {
      values.set(image, all.reduce((sum, value) => sum + value) / all.length);
    }
  }
  return cells;
}

function showRanks() {
  const merit = data.merits[find("merit").value];
  const wanted = identity(sent[find("chosen").value]);
  const cells = meansOf(merit.name);
  const all = [...cells.values()].flatMap((means) => [...means.values()]);
  const low = Math.min(...all), span = Math.max(...all) - low || 1;
  const along = (value) => {
    const part = (value - low) / span;
    return 6 + 212 * (merit.higher ? part : 1 - part);
  };
  const lines = [];
  for (const [cell, means] of cells) {
    if (!means.has(wanted)) continue;
    const own = means.get(wanted);
    const values = [...means.values()];
    const better = values.filter((value) => (merit.higher ? value > own : value < own)).length;
    const rank = `${better + 1} of ${values.length}`;
    const [scheme, point] = JSON.parse(cell);
    const strip = element("svg", { viewBox: "0 0 224 16", "aria-hidden": "true" },
      element("line", { class: "axis", x1: 0, x2: 224, y1: 8, y2: 8 }),
      ...values.map((value) =>
        element("line", { x1: along(value), x2: along(value), y1: 3, y2: 13 })),
      element("circle", { cx: along(own), cy: 8, r: 5 }));
    lines.push(element("tr", {},
      element("td", { class: "text" }, scheme),
      element("td", { class: "text" }, point),
      element("td", {}, fixed(own, merit.digits)),
      element("td", {}, strip),
      element("td", {}, rank)));
  }
  find("rank-merit").textContent = merit.label;
  find("ranks").tBodies[0].replaceChildren(...lines);
}

const twice = (row) => sent.filter((other) => other.image === row.image).length > 1;
offer(find("chosen"), sent.map((row) => (twice(row) ? identity(row) : row.image)));
offer(find("merit"), data.merits.map((merit) => merit.label));
find("chosen").addEventListener("change", () => { showTransmissions(); showRanks(); });
find("merit").addEventListener("change", showRanks);
showTransmissions();
showRanks();
