// The pixels of a JPEG or PNG file at full size: red, green, blue, a byte each, row by row, upright as a viewer shows them.
// libjpeg-turbo decodes here as it does in Python, to the same pixels. Embedded colour profiles are not applied.
import { readFile } from "node:fs/promises";
import jpeg from "@cwasm/jpeg-turbo";
import exifr from "exifr";
import { PNG } from "pngjs";

export async function readPixels(path) {
  const file = await readFile(path);
  if (file[0] === 0xff && file[1] === 0xd8) return upright(jpeg.decode(file), (await exifr.orientation(file)) ?? 1);
  if (file.subarray(1, 4).toString("latin1") === "PNG") return upright(PNG.sync.read(file), 1);
  throw new Error("is neither JPEG nor PNG");
}

// Orientation as EXIF counts: from 5 on rows and columns change places, and either may run backwards. What is transparent lies on white.
function upright({ width, height, data }, orientation) {
  const turned = orientation > 4;
  const [across, down] = turned ? [height, width] : [width, height];
  const leftwards = [2, 3, 7, 8].includes(orientation);
  const upwards = [3, 4, 6, 7].includes(orientation);
  const pixels = new Uint8Array(across * down * 3);
  let place = 0;
  for (let y = 0; y < down; y++) {
    for (let x = 0; x < across; x++) {
      const [column, row] = turned ? [y, x] : [x, y];
      const from = 4 * ((upwards ? height - 1 - row : row) * width + (leftwards ? width - 1 - column : column));
      const alpha = data[from + 3];
      for (let channel = 0; channel < 3; channel++) {
        pixels[place++] = alpha === 255 ? data[from + channel] : Math.round((data[from + channel] * alpha + 255 * (255 - alpha)) / 255);
      }
    }
  }
  return { width: across, height: down, data: pixels };
}
