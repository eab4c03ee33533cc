// An image with what was found drawn over it: boxes, coloured areas, heat. Places are in pixels of the upright original.

import { CLASSES } from "/page/colours.js";
import { element, named, percent, slider } from "./elements.js";
import { drawHeat } from "./heat.js";

// An image of fewer pixels a side is a drawing of pixels, and is shown as one.
const FEW_PIXELS = 96;

export class Picture {
  // "stage" holds an image or a video, over which layers are laid; sliders for what is laid there go to "controls".
  constructor(stage) {
    this.stage = stage;
    this.controls = element("div");
    this.size = null;
    this.layers = {};
    this.sliders = {};
  }

  // Of a file, which the browser may not be able to show; the model may still have read it.
  static of(file) {
    const address = URL.createObjectURL(file);
    const image = element("img", { src: address, alt: `The image ${file.name}`, decoding: "async" });
    const picture = new Picture(element("div", { className: "stage" }, image));
    picture.element = element("div", { className: "seen" }, picture.stage, picture.controls);
    picture.address = address;
    image.addEventListener("load", () => picture.sized([image.naturalWidth, image.naturalHeight]));
    image.addEventListener("error", () => {
      image.replaceWith(element("p", { className: "unshown small" }, "This browser does not show images of this kind."));
    });
    return picture;
  }

  // Width and height of the original, told by the browser or, which is always right, by the server.
  sized(size) {
    this.size = size;
    this.stage.style.setProperty("--ratio", size[0] / size[1]);
    this.stage.classList.toggle("pixels", Math.max(...size) <= FEW_PIXELS);
  }

  // Draws a box for each object, in the order given, and returns their elements.
  boxes(found, names) {
    const [width, height] = this.size ?? [1, 1];
    const drawn = found.map(({ label, score, box }) => {
      const made = this.box("box", box, element("span", {}, named(label), ` ${percent(score, 0)}`));
      const colour = CLASSES[Math.max(0, names.indexOf(label)) % CLASSES.length];
      made.style.setProperty("--colour", colour);
      made.classList.toggle("on-dark", luminance(colour) < 0.18);
      made.classList.toggle("at-top", box[1] < 0.08 * height);
      made.classList.toggle("at-right", box[0] > 0.6 * width);
      return made;
    });
    // The first are the surest, and lie on top.
    this.lay("boxes", element("div", { className: "boxes", "aria-hidden": "true" }, [...drawn].reverse()));
    return drawn;
  }

  box(className, [left, top, right, bottom], ...words) {
    const [width, height] = this.size ?? [1, 1];
    const made = element("div", { className }, ...words);
    const sides = { left: left / width, top: top / height, width: (right - left) / width, height: (bottom - top) / height };
    for (const [side, share] of Object.entries(sides)) made.style[side] = percent(share, 3);
    return made;
  }

  // Lays the colours of areas over the picture, with a slider for how strong they are.
  mask(address) {
    const layer = this.lay("mask", element("img", { className: "mask", src: address, alt: "" }));
    this.control("Colours", { value: 60, show: (value) => (layer.style.opacity = value / 100) });
  }

  // Lays heat over the picture, which turns grey and dark under it, with a slider for how strong it is.
  heat(explanation) {
    this.sized(explanation.size ?? this.size ?? [1, 1]);
    const canvas = this.lay("heat", element("canvas", { className: "heat", "aria-hidden": "true" }));
    drawHeat(canvas, explanation, this.size);
    if (explanation.object) this.lay("aim", element("div", { className: "boxes" }, this.box("box aim", explanation.object)));
    // Colours of two kinds over each other tell nothing.
    const colours = this.sliders.Colours?.querySelector("input");
    if (colours) {
      colours.value = 0;
      colours.dispatchEvent(new Event("input"));
    }
    this.control("Heat map", { value: 80, show: (value) => this.stage.style.setProperty("--heat", value / 100) });
  }

  control(words, how) {
    this.sliders[words]?.remove();
    this.sliders[words] = slider(words, { text: (value) => `${value}%`, ...how });
    this.controls.append(this.sliders[words]);
  }

  // Takes away all that was laid over the picture.
  clear() {
    for (const layer of Object.values(this.layers)) layer.remove();
    this.layers = {};
  }

  lay(kind, layer) {
    this.layers[kind]?.remove();
    this.layers[kind] = layer;
    this.stage.append(layer);
    return layer;
  }

  // Frees the memory of the file.
  close() {
    URL.revokeObjectURL(this.address);
  }
}

// Relative luminance as in WCAG 2, of "#rrggbb".
function luminance(colour) {
  const parts = [1, 3, 5].map((start) => Number.parseInt(colour.slice(start, start + 2), 16) / 255);
  const [red, green, blue] = parts.map((part) => (part > 0.04 ? ((part + 0.055) / 1.055) ** 2.4 : part / 12.92));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
