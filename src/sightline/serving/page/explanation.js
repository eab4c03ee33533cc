// Why a model says what it says: the heat map, how the map fared in its test, and the nearest training images.

import { element, named, percent } from "./elements.js";

const VERDICTS = new Map([
  [true, ["good", "The heat map passed its test"]],
  [false, ["poor", "The heat map failed its test: do not rely on it"]],
  [null, ["fair", "The heat map was not tested"]],
]);

// The elements of an explanation as the server tells it; the map is laid over "picture".
export function explanation(found, picture) {
  const flat = found.heat.every((row) => row.every((value) => value === 0));
  const lead = flat
    ? ["No part of the image speaks for ", named(found.label), " more than the others."]
    : ["Light parts speak for ", named(found.label), `, ${percent(found.score)}; inside the ring they do so most.`];
  if (!flat) picture.heat(found);
  return element(
    "section",
    { className: "why", "aria-label": "Why the model says so" },
    element("h4", {}, "Why"),
    element("p", {}, ...lead),
    !flat && tested(found),
    found.nearest.length > 0 && neighbours(found.nearest),
  );
}

function tested({ tested: { passed = null, sentence, reason }, trust, how, whole }) {
  const [level, words] = VERDICTS.get(passed);
  return element(
    "div",
    { className: "tested" },
    element("p", { className: `level ${level}` }, mark(level), words),
    trust && element("p", { className: trust.trusted === false ? "small warned" : "small" }, trust.sentence),
    element(
      "details",
      {},
      element("summary", {}, "How it was made and tested"),
      element("p", { className: "small" }, how),
      element("p", { className: "small" }, sentence ?? reason),
      !whole && element("p", { className: "small" }, "The network looks at the middle of an image: what lies in the dark it does not see."),
    ),
  );
}

const MARKS = { good: "M7 12.5l3.4 3.4L17 8.7", fair: "M7 12h10", poor: "M8 8l8 8M16 8l-8 8" };

function mark(level) {
  const make = (tag, properties) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
    return made;
  };
  const svg = make("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" });
  svg.append(make("circle", { cx: 12, cy: 12, r: 10.5 }), make("path", { d: MARKS[level] }));
  return svg;
}

function neighbours(found) {
  const shown = found.map(({ label, similarity, thumb }) =>
    element(
      "li",
      {},
      thumb && element("img", { src: thumb, alt: "" }),
      element("span", { className: "name" }, named(label || "no label")),
      element("span", { className: "small" }, `${similarity.toFixed(2)} alike`),
    ),
  );
  return element("div", {}, element("h4", {}, "Nearest training images"), element("ul", { className: "nearest" }, shown));
}
