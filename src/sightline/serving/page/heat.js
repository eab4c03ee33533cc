// Heat drawn over an image as "sightline explain" draws it: bilinear between the cells' centres, a ring around the hotter half.

import { HEAT } from "/page/colours.js";

// Pixels of the longer side that is drawn; maps are coarse.
const SIDE = 480;
// What the network did not see is darkened by so much.
const UNSEEN = 0.6;

// "heat" are rows of numbers in [0, 1] that cover "box", [left, top, right, bottom] in pixels of an image of this [width, height].
export function drawHeat(canvas, { heat, box }, [width, height]) {
  const scale = SIDE / Math.max(width, height);
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const values = sampled(heat, box, width, height, canvas);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  values.forEach((value, place) => pixels.data.set(Number.isNaN(value) ? [0, 0, 0, 255 * UNSEEN] : coloured(value), 4 * place));
  ringed(pixels, values);
  context.putImageData(pixels, 0, 0);
}

// The heat of each pixel of the canvas; not a number where the network saw nothing.
function sampled(heat, [left, top, right, bottom], width, height, canvas) {
  const rows = heat.length;
  const columns = heat[0].length;
  const along = (count, size, from, to, cells) =>
    Array.from({ length: count }, (_, place) => {
      const share = (((place + 0.5) / count) * size - from) / (to - from);
      const at = Math.min(Math.max(share * cells - 0.5, 0), cells - 1);
      const first = Math.min(Math.floor(at), Math.max(0, cells - 2));
      return { seen: share >= 0 && share <= 1, first, next: Math.min(first + 1, cells - 1), part: at - first };
    });
  const xs = along(canvas.width, width, left, right, columns);
  const ys = along(canvas.height, height, top, bottom, rows);
  const values = new Float32Array(canvas.width * canvas.height);
  ys.forEach((y, row) => {
    xs.forEach((x, column) => {
      const above = heat[y.first][x.first] * (1 - x.part) + heat[y.first][x.next] * x.part;
      const below = heat[y.next][x.first] * (1 - x.part) + heat[y.next][x.next] * x.part;
      values[row * canvas.width + column] = x.seen && y.seen ? above * (1 - y.part) + below * y.part : NaN;
    });
  });
  return values;
}

function coloured(value) {
  const after = Math.max(1, HEAT.colours.findIndex(([place]) => place >= value));
  const [[from, cold], [to, hot]] = [HEAT.colours[after - 1], HEAT.colours[after]];
  const part = (value - from) / (to - from);
  return [...cold.map((shade, channel) => shade + (hot[channel] - shade) * part), 255 * (HEAT.cool + (HEAT.hot - HEAT.cool) * value)];
}

// A white line just inside the border of the hotter half, and a dark one just outside.
function ringed({ data, width, height }, values) {
  const inside = (x, y) => values[y * width + x] >= HEAT.ring;
  for (let y = 1; y < height - 1; y += 1) {
    for (let x = 1; x < width - 1; x += 1) {
      const own = inside(x, y);
      if (own === inside(x - 1, y) && own === inside(x + 1, y) && own === inside(x, y - 1) && own === inside(x, y + 1)) continue;
      data.set(own ? [255, 255, 255, 255] : [0, 0, 0, 255], 4 * (y * width + x));
    }
  }
}
