// What the other files share. They are put together, in one scope, in the order of their names
// in report.py.
const data = JSON.parse(document.getElementById("data").textContent);
const records = data.records.map((values) =>
  Object.fromEntries(data.columns.map((name, i) => [name, values[i]])));
document.documentElement.classList.add("scripted");

const find = (id) => document.getElementById(id);

// Text becomes text nodes, never markup: names may hold anything.
function element(tag, attributes = {}, ...children) {
  const made = tag === "svg" || tag === "line" || tag === "circle"
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A metric of the final image, or of the transmission as a whole; null where there is none.
const valueOf = (record, key) => (key in record ? record[key] : record.metrics[key]) ?? null;
const initialOf = (record, key) => record.initial_metrics?.[key] ?? null;

const fixed = (value, digits) => (value ?? null) === null ? "–" : value.toFixed(digits);

const pointOf = (record) =>
  `R = ${record.nominal_rate}, ${record.nominal_snr_db} dB, ${record.channel}`;

// Fills a <select>; what was chosen before stays chosen if it is still there.
function offer(select, labels, fallback = 0) {
  const before = select.selectedOptions[0]?.textContent;
  select.replaceChildren(...labels.map((label, i) => element("option", { value: i }, label)));
  const kept = labels.indexOf(before);
  select.value = kept < 0 ? fallback : kept;
}
