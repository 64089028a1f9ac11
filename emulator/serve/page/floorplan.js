// Where each place of the chip is drawn. Areas are the model's; the arrangement is ours: layers in
// rows, inside a layer its passes side by side over the KV SRAM, below them what all layers share.

export const ASPECT = 16 / 9; // of the drawn die

const area = (place) => Object.values(place.area_mm2).reduce((sum, part) => sum + part, 0);

// Rectangles { place, x, y, w, h } in mm, and the die's { width, height }.
export function arrange(places) {
  const sized = places.map((place) => ({ place, area: area(place) })).filter((one) => one.area > 0);
  const total = sum(sized);
  const width = Math.sqrt(total * ASPECT);
  const layers = new Map();
  const shared = [];
  for (const one of sized) {
    const { layer } = one.place;
    if (layer === null) shared.push(one);
    else layers.set(layer, [...(layers.get(layer) ?? []), one]);
  }
  const tiles = [...layers.values()].map((own) => ({ own, area: sum(own) }));
  const top = sum(tiles) / width;
  const rects = [];
  for (const tile of inRows(tiles, { x: 0, y: 0, w: width, h: top })) rects.push(...insideLayer(tile));
  const rest = { x: 0, y: top, w: width, h: total / width - top };
  rects.push(...squarify(shared.sort((a, b) => b.area - a.area), rest));
  return { rects, width, height: total / width };
}

const sum = (sized) => sized.reduce((total, one) => total + one.area, 0);

// Tiles of equal or similar size, in rows of as many as make them about square.
function inRows(tiles, box) {
  const columns = Math.max(1, Math.round(Math.sqrt(tiles.length * box.w / box.h)));
  const rows = Math.max(1, Math.ceil(tiles.length / columns));
  const placed = [];
  let y = box.y;
  for (let row = 0; row < rows; row += 1) {
    const from = Math.round(row * tiles.length / rows);
    const own = tiles.slice(from, Math.round((row + 1) * tiles.length / rows));
    const h = sum(own) / box.w;
    placed.push(...along(own, { x: box.x, y, w: box.w, h }, true));
    y += h;
  }
  return placed;
}

function insideLayer({ own, x, y, w, h }) {
  const sram = own.filter((one) => one.place.name === "kv_sram");
  const fabric = own.filter((one) => one.place.name !== "kv_sram");
  const split = h * sum(fabric) / sum(own);
  return [
    ...along(fabric, { x, y, w, h: split }, true),
    ...along(sram, { x, y: y + split, w, h: h - split }, true),
  ];
}

// Fills the box with all of them, side by side or one under another.
function along(sized, box, beside) {
  const total = sum(sized);
  let at = beside ? box.x : box.y;
  return sized.map((one) => {
    const length = (beside ? box.w : box.h) * one.area / total;
    const rect = beside ? { ...one, x: at, y: box.y, w: length, h: box.h }
      : { ...one, x: box.x, y: at, w: box.w, h: length };
    at += length;
    return rect;
  });
}

// A treemap whose rectangles are as square as rows along the shorter side allow.
function squarify(sized, box) {
  if (!sized.length) return [];
  const scale = box.w * box.h / sum(sized);
  const side = Math.min(box.w, box.h);
  const worst = (row) => {
    const thick = sum(row) * scale / side;
    return Math.max(...row.map((one) => {
      const long = one.area * scale / thick;
      return Math.max(long / thick, thick / long);
    }));
  };
  let count = 1;
  while (count < sized.length && worst(sized.slice(0, count + 1)) <= worst(sized.slice(0, count))) {
    count += 1;
  }
  const row = sized.slice(0, count);
  const thick = sum(row) * scale / side;
  const wide = box.w >= box.h;
  const strip = wide ? { ...box, w: thick } : { ...box, h: thick };
  const rest = wide ? { ...box, x: box.x + thick, w: box.w - thick }
    : { ...box, y: box.y + thick, h: box.h - thick };
  return [...along(row, strip, !wide), ...squarify(sized.slice(count), rest)];
}
