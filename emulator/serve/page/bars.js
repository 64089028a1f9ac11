// Where the cycles of one token of an answer went: a table with bars, most first.
import { getJson } from "./api.js";
import { count, time } from "./pace.js";

export function cyclesOf(usage, key) {
  const box = document.createElement("details");
  const summary = box.appendChild(document.createElement("summary"));
  summary.textContent = "Where the cycles went";
  const line = box.appendChild(document.createElement("label"));
  line.className = "which";
  const slider = document.createElement("input");
  const name = document.createElement("span");
  Object.assign(slider, { type: "range", min: 1, max: usage.completion_tokens, value: 1 });
  line.append(name, slider);
  const place = box.appendChild(document.createElement("div"));

  async function show() {
    const context = usage.prompt_tokens + Number(slider.value) - 1;
    name.textContent = `Token ${slider.value} of ${count(usage.completion_tokens)}`;
    try {
      const report = await getJson(`hardwired/cycles?context=${context}`, key());
      if (context === usage.prompt_tokens + Number(slider.value) - 1) {
        place.replaceChildren(table(report));
      }
    } catch (error) {
      place.textContent = error.message;
    }
  }

  slider.addEventListener("input", show);
  box.addEventListener("toggle", () => box.open && show());
  return box;
}

function table(report) {
  const rows = Object.entries(report.cycles_by_block).filter(([, cycles]) => cycles > 0);
  rows.sort((a, b) => b[1] - a[1]);
  const total = rows.reduce((sum, [, cycles]) => sum + cycles, 0);
  const table = document.createElement("table");
  table.createCaption().textContent = `${count(total)} cycles, ` +
    `${time(total / report.clock_hz)}, with ${count(report.context)} positions to attend to`;
  const head = table.createTHead().insertRow();
  for (const [name, kind] of [["Block", ""], ["Cycles", "number"], ["Share", "number"], ["", "bar"]]) {
    const cell = head.appendChild(document.createElement(name ? "th" : "td"));
    Object.assign(cell, { className: kind, textContent: name });
  }
  const body = table.createTBody();
  for (const [block, cycles] of rows) {
    const row = body.insertRow();
    const name = row.appendChild(document.createElement("th"));
    Object.assign(name, { scope: "row", textContent: block });
    const share = 100 * cycles / total;
    for (const text of [count(cycles), share < 0.05 ? "< 0.1 %" : `${share.toFixed(1)} %`]) {
      Object.assign(row.insertCell(), { className: "number", textContent: text });
    }
    const cell = row.insertCell();
    cell.className = "bar";
    const bar = cell.appendChild(document.createElement("div"));
    bar.style.width = `${100 * cycles / rows[0][1]}%`;
  }
  return table;
}
