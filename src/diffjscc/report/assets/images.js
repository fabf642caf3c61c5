// One image: all its transmissions, and how it ranks among the others.
const identity = (record) => `${record.image} ${record.image_hash}`;
const sent = [...new Map(records.map((record) => [identity(record), record])).values()];

function chosenRecords() {
  const wanted = identity(sent[find("chosen").value]);
  return records.filter((record) => identity(record) === wanted);
}

function showTransmissions() {
  const number = (value, text = String(value)) => element("td", { "data-value": value }, text);
  const text = (value) => element("td", { class: "text" }, value);
  const metric = (record, { key, digits }) => {
    const before = initialOf(record, key), value = valueOf(record, key);
    const aside = before === null ? [] : [
      element("span", { class: "aside" }, `${fixed(before, digits)} → `),
    ];
    return element("td", { "data-value": value ?? "" }, ...aside, fixed(value, digits));
  };
  const lines = chosenRecords().map((record) => element("tr", {},
    text(record.outage ? `${record.scheme} (outage)` : record.scheme),
    text(record.channel),
    number(record.rate, record.nominal_rate),
    number(record.channel_uses, record.channel_uses.toLocaleString("en")),
    number(record.nominal_snr_db),
    number(record.snr_db, fixed(record.snr_db, 2)),
    number(record.repeat),
    ...data.metrics.map((info) => metric(record, info)),
    ...(data.captioned ? [text(record.caption ?? "–")] : [])));
  find("transmissions").tBodies[0].replaceChildren(...lines);
  for (const header of find("transmissions").tHead.rows[0].children) {
    header.setAttribute("aria-sort", "none");
  }
}

// Mean of a metric by scheme and operating point, then by image.
function meansOf(key) {
  const points = new Map();
  for (const record of records) {
    const value = valueOf(record, key);
    if (value === null) continue;
    const point = JSON.stringify([record.scheme, pointOf(record)]);
    if (!points.has(point)) points.set(point, new Map());
    const values = points.get(point);
    values.set(identity(record), [...(values.get(identity(record)) ?? []), value]);
  }
  for (const values of points.values()) {
    for (const [image, all] of values) {
      values.set(image, all.reduce((sum, value) => sum + value) / all.length);
    }
  }
  return points;
}

function showRanks() {
  const { key, heading, higher_is_better, digits } = data.metrics[find("metric").value];
  const wanted = identity(sent[find("chosen").value]);
  const points = meansOf(key);
  const all = [...points.values()].flatMap((means) => [...means.values()]);
  const low = Math.min(...all), span = Math.max(...all) - low || 1;
  const along = (value) => {
    const part = (value - low) / span;
    return 6 + 212 * (higher_is_better ? part : 1 - part);
  };
  const lines = [];
  for (const [place, means] of points) {
    if (!means.has(wanted)) continue;
    const own = means.get(wanted);
    const values = [...means.values()];
    const better = values.filter((value) => (higher_is_better ? value > own : value < own)).length;
    const rank = `${better + 1} of ${values.length}`;
    const [scheme, point] = JSON.parse(place);
    const strip = element("svg", { viewBox: "0 0 224 16", "aria-hidden": "true" },
      element("line", { class: "axis", x1: 0, x2: 224, y1: 8, y2: 8 }),
      ...values.map((value) =>
        element("line", { x1: along(value), x2: along(value), y1: 3, y2: 13 })),
      element("circle", { cx: along(own), cy: 8, r: 5 }));
    lines.push(element("tr", {},
      element("td", { class: "text" }, scheme),
      element("td", { class: "text" }, point),
      element("td", {}, fixed(own, digits)),
      element("td", {}, strip),
      element("td", {}, rank)));
  }
  find("rank-metric").textContent = heading;
  find("ranks").tBodies[0].replaceChildren(...lines);
}

const twice = (record) => sent.filter((other) => other.image === record.image).length > 1;
offer(find("chosen"), sent.map((record) => (twice(record) ? identity(record) : record.image)));
offer(find("metric"), data.metrics.map((info) => info.heading));
find("chosen").addEventListener("change", () => { showTransmissions(); showRanks(); });
find("metric").addEventListener("change", showRanks);
showTransmissions();
showRanks();
