// The floor plan as SVG, and how brightly each place of it shines.
import { arrange } from "./floorplan.js";

const SVG = "http://www.w3.org/2000/svg";
const KINDS = { kv_sram: "sram", attention: "attention", "vector unit": "vector", rest: "rest" };
const FADE = 0.82; // of a place's light that is left after a frame, so that the eye can follow

export class Plan {
  constructor(svg, places) {
    const { rects, width, height } = arrange(places);
    svg.replaceChildren();
    svg.setAttribute("viewBox", `${-0.1} ${-0.1} ${width + 0.2} ${height + 0.2}`);
    const at = new Map(rects.map((rect) => [rect.place, rect]));
    this.rects = places.map((place) => (at.has(place) ? draw(svg, place, at.get(place), width) : null));
    this.shown = places.map(() => 0);
  }

  // `light` holds 0 to 1 for each place: the share of the time in which it works.
  light(light, fading) {
    light.forEach((now, index) => {
      const shown = fading ? Math.max(now, this.shown[index] * FADE) : now;
      if (Math.abs(shown - this.shown[index]) < 0.004 && shown !== now) return;
      this.shown[index] = shown;
      const rect = this.rects[index];
      if (!rect) return;
      rect.style.fillOpacity = (0.14 + 0.86 * Math.sqrt(shown)).toFixed(3);
      rect.dataset.lit = now.toFixed(3);
    });
  }
}

function draw(svg, place, { x, y, w, h }, width) {
  const group = svg.appendChild(document.createElementNS(SVG, "g"));
  const rect = group.appendChild(document.createElementNS(SVG, "rect"));
  const sizes = { x, y, width: w, height: h };
  for (const [name, value] of Object.entries(sizes)) rect.setAttribute(name, value.toFixed(4));
  rect.setAttribute("class", `place ${KINDS[place.name] ?? "fabric"}`);
  rect.dataset.name = place.layer === null ? place.name : `layer ${place.layer} ${place.name}`;
  const total = Object.values(place.area_mm2).reduce((sum, part) => sum + part, 0);
  const parts = Object.entries(place.area_mm2).map(([name, mm2]) => `${name} ${mm2.toFixed(2)}`);
  const title = group.appendChild(document.createElementNS(SVG, "title"));
  title.textContent = `${rect.dataset.name}: ${total.toFixed(2)} mm² (${parts.join(", ")})`;
  if (place.layer === null) label(group, place.name, total, { x, y, w, h }, width);
  return rect;
}

// A name where there is room for it; the title has it everywhere.
function label(group, name, mm2, { x, y, w, h }, width) {
  const size = width / 36;
  const lines = [name.replace("fabric_", ""), `${mm2.toFixed(mm2 < 10 ? 1 : 0)} mm²`];
  if (Math.max(...lines.map((line) => line.length)) * size * 0.6 > w || h < size * 2.6) return;
  lines.forEach((line, index) => {
    const text = group.appendChild(document.createElementNS(SVG, "text"));
    text.setAttribute("x", (x + w / 2).toFixed(3));
    text.setAttribute("y", (y + h / 2 + size * (index * 1.2 - 0.2)).toFixed(3));
    text.setAttribute("font-size", size.toFixed(3));
    text.textContent = line;
  });
}

// For each place the share of the cycles from `from` to `to` in which one of its blocks works.
export function lightOf(report, from, to) {
  const span = Math.max(to - from, 1);
  const light = report.places.map(() => 0);
  for (const [stage, block, share] of active(report, from, to, span)) {
    report.places.forEach((place, index) => {
      const here = place.layer === null || place.layer === stage.layer;
      if (here && place.blocks.includes(block)) light[index] = Math.min(1, light[index] + share);
    });
  }
  return light;
}

// "layer 7: fabric_down", of the block that works most between two cycles.
export function busiest(report, from, to) {
  let best = ["", "", 0];
  for (const one of active(report, from, to, 1)) if (one[2] > best[2]) best = one;
  return best[2] ? `${best[0].stage}: ${best[1]}` : "";
}

function* active(report, from, to, span) {
  for (const stage of report.stages) {
    if (stage.begin > to) return;
    for (const [block, first, last] of report.uses[stage.uses]) {
      const overlap = Math.min(to, stage.begin + last) - Math.max(from, stage.begin + first);
      if (overlap > 0) yield [stage, block, overlap / span];
    }
  }
}
