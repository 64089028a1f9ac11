// Where the cycles of one token of an answer went: a table with bars, most first.
import { getJson } from "./api.js";
import { count, time } from "./pace.js";

export function cyclesOf(usage, key) {
  const box = document.createElement("details");
  const summary = box.appendChild(document.createElement("summary"));
  summary.textContent = "Where the cycles of a token went";
  const line = box.appendChild(document.createElement("label"));
  line.className = "which";
  const slider = document.createElement("input");
  const name = document.createElement("span");
  Object.assign(slider, { type: "range", min: 1, max: usage.completion_tokens, value: 1 });
  line.append(name, slider);
  const place = box.appendChild(document.createElement("div"));

  async function show() {
    const context = usage.prompt_tokens + Number(slider.value) - 1;
    name.textContent = `token ${slider.value}`;
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
  for (const [block, cycles] of rows) {
    const row = table.insertRow();
    const head = document.createElement("th");
    Object.assign(head, { scope: "row", textContent: block });
    row.append(head);
    const number = row.insertCell();
    number.className = "number";
    number.textContent = `${count(cycles)} · ${(100 * cycles / total).toFixed(1)} %`;
    const cell = row.insertCell();
    cell.className = "bar";
    const bar = cell.appendChild(document.createElement("div"));
    bar.style.width = `${100 * cycles / rows[0][1]}%`;
  }
  return table;
}
