// What a model says of an image, in words and bars: labels, objects or areas, and what to know besides.

import { element, listed, named, percent } from "./elements.js";

// Objects listed one by one; of more only the surest.
const MOST_LISTED = 12;
const MOST_NAMED = 8;
// An answer of more letters is written smaller.
const LONG = 40;

export const TASKS = {
  classify: "tells what an image shows",
  tag: "names everything that an image shows",
  detect: "finds things and where they are",
  segment: "says for every pixel what it belongs to",
};

// How many classes are asked for; those of a picture's areas are all in its legend.
const CLASSES_ASKED = { classify: 5, tag: 20, segment: 256 };

export const isOfPlaces = (model) => ["detect", "segment"].includes(model.task);

// What to ask of a model, as "predict" in api.js takes it: where things are is drawn in pixels of the original, so with its size.
export function asking(model) {
  return { model: model.name, top: CLASSES_ASKED[model.task], mask: isOfPlaces(model) };
}

// On a line, such as for a screen reader.
export function inWords(result, task) {
  const found = result.predictions;
  const said = {
    detect: () => listed([...counts(found)].map(([label, count]) => `${count} ${label}`)) || "nothing found",
    segment: () => listed(found.map(({ label, share }) => `${label} ${percent(share, 0)}`)),
    tag: () => listed(found.map(({ label, score }) => `${label} ${percent(score, 0)}`)) || "no label",
    classify: () => `${found[0].label}, ${percent(found[0].score, 0)}`,
  }[task]();
  return result.abstained ? `${result.unfamiliar ? "unlike any training image" : "not sure"}; best guess: ${said}` : said;
}

// The answer's elements. "picture" shows boxes and colours on the image; see picture.js. "live" answers change too fast for sliders.
export function answers(result, model, picture, live = false) {
  const caution = cautionOf(result);
  if (model.task === "detect") return [caution, ...objects(result.predictions, model.labels, picture, live)];
  if (model.task === "segment") return [caution, ...areas(result, picture)];
  return [caution, ...labels(result.predictions, model.task, result.abstained), candidatesOf(result)];
}

function cautionOf({ abstained, unfamiliar }) {
  if (!abstained) return null;
  const [what, why] = unfamiliar
    ? ["Unlike any training image", "The model has seen nothing like this, so what it says of it means little. Its best guess:"]
    : ["The model does not answer", "It is too unsure of this image to keep its promise of being right. Its best guess:"];
  return element("div", { className: "notice warn" }, element("p", { className: "strong" }, what), element("p", {}, why));
}

// What is promised of candidates holds for images like those that the model knows.
function candidatesOf({ candidates, unfamiliar }) {
  if (!candidates || candidates.length < 2 || unfamiliar) return null;
  return element("p", { className: "small" }, "The true label is very likely among ", named(listed(candidates, MOST_NAMED)), ".");
}

function labels(found, task, unsure) {
  if (!found.length) return [element("p", { className: "said" }, "No label is sure enough")];
  const words = task === "tag" ? listed(found.map(({ label }) => label), MOST_NAMED) : found[0].label;
  const score = task === "tag" ? [] : [" ", element("span", {}, percent(found[0].score))];
  const said = element("p", { className: "said" }, named(words), ...score);
  said.classList.toggle("unsure", Boolean(unsure));
  said.classList.toggle("long", words.length > LONG);
  const rows = found.map(({ label, score }) => bar(label, score));
  return [said, element("ol", { className: "bars", "aria-label": "Labels, the surest first" }, rows)];
}

function bar(label, share, ...before) {
  const filled = element("span", { className: "filled" });
  filled.style.width = percent(share);
  const track = element("span", { className: "track", "aria-hidden": "true" }, filled);
  const name = element("span", { className: "name" }, ...before, named(label));
  return element("li", {}, name, track, element("span", { className: "amount" }, percent(share)));
}

function areas({ predictions, mask, colours = {} }, picture) {
  const rows = predictions.map(({ label, share }) => bar(label, share, swatch(colours[label])));
  const list = element("ol", { className: "bars", "aria-label": "Share of the image's pixels, the largest first" }, rows);
  if (mask) picture.mask(mask);
  return [element("h4", {}, "Share of the image"), list];
}

function swatch(colour) {
  const made = element("span", { className: "swatch", "aria-hidden": "true" });
  if (colour) made.style.background = colour;
  return made;
}

function objects(found, names, picture, live) {
  const said = element("p", { className: "said" });
  const list = element("ul", { className: "objects" });
  const show = (from) => {
    const shown = found.filter(({ score }) => 100 * score >= from);
    said.replaceChildren(...summary(shown, found.length));
    const boxes = picture.boxes(shown, names);
    const rows = shown.slice(0, MOST_LISTED).map((entry, place) => object(entry, boxes[place]));
    if (shown.length > rows.length) rows.push(element("li", { className: "small" }, `${shown.length - rows.length} more on the picture`));
    list.replaceChildren(...rows);
  };
  const lowest = Math.floor(100 * Math.min(1, ...found.map(({ score }) => score)));
  if (live || found.length < 2) show(0);
  else picture.control("Show from", { min: lowest, value: lowest, show });
  return [said, list];
}

// A row for an object; to point at it lights up its box, which has the same words.
function object({ label, score }, box) {
  const light = (on) => () => box.classList.toggle("lit", on);
  const colour = swatch(box.style.getPropertyValue("--colour"));
  const amount = element("span", { className: "amount" }, percent(score));
  return element("li", { onpointerenter: light(true), onpointerleave: light(false) }, colour, named(label), " ", amount);
}

function summary(shown, all) {
  if (!shown.length) return [all ? "Nothing as sure as that" : "Nothing found"];
  return [...counts(shown)].flatMap(([label, count], place) => [place ? ", " : "", `${count} `, named(label)]);
}

function counts(found) {
  const sums = new Map();
  for (const { label } of found) sums.set(label, (sums.get(label) ?? 0) + 1);
  return new Map([...sums].sort(([, one], [, other]) => other - one));
}
