// A model's card, which is Markdown that came with the bundle: headings, lists, tables and paragraphs become elements, all else is text.

import { byId, element } from "./elements.js";

const name = decodeURIComponent(location.pathname.split("/").at(-1));
const address = `/v1/models/${encodeURIComponent(name)}/card`;

// "lines" of Markdown to elements; what is not understood stays as it is written.
function blocks(lines) {
  const made = [];
  let place = 0;
  const lasting = (pattern) => {
    const start = place;
    while (place < lines.length && pattern.test(lines[place])) place += 1;
    return lines.slice(start, place);
  };
  while (place < lines.length) {
    const heading = /^(#{1,4}) (.*)$/.exec(lines[place]);
    if (heading) {
      made.push(element(`h${heading[1].length}`, {}, ...inline(heading[2])));
      place += 1;
    } else if (/^```/.test(lines[place])) {
      place += 1;
      made.push(element("pre", { tabIndex: 0 }, lasting(/^(?!```)/).join("\n")));
      place += 1;
    } else if (/^\|/.test(lines[place])) made.push(table(lasting(/^\|/)));
    else if (/^[-*] /.test(lines[place])) made.push(element("ul", {}, items(lasting(/^([-*] | {2,}\S)/))));
    else {
      const first = lines[place];
      place += 1;
      if (first.trim()) made.push(element("p", {}, ...inline([first, ...lasting(/^(?!#{1,4} |```|\||[-*] )\s*\S/)].join(" "))));
    }
  }
  return made;
}

function items(lines) {
  const whole = [];
  for (const line of lines) {
    if (/^[-*] /.test(line)) whole.push(line.slice(2));
    else whole[whole.length - 1] += ` ${line.trim()}`;
  }
  return whole.map((text) => element("li", {}, ...inline(text)));
}

function table(lines) {
  const rows = lines.map((line) => line.replace(/^\||\|\s*$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|")));
  const [head, ...body] = rows.filter((row) => !row.every((cell) => /^:?-+:?$/.test(cell)));
  const row = (cells, tag) => element("tr", {}, cells.map((cell) => element(tag, tag === "th" ? { scope: "col" } : {}, ...inline(cell))));
  const whole = element("table", {}, element("thead", {}, row(head, "th")), element("tbody", {}, body.map((cells) => row(cells, "td"))));
  return element("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": head.join(", ") }, whole);
}

// Bold and code within a line; links stay text, as they could lead anywhere.
function inline(text) {
  return text.split(/((?<!\\)\*\*[^*]+\*\*|(?<!\\)`[^`]+`)/).map((part) => {
    if (part.length > 4 && part.startsWith("**")) return element("strong", {}, plain(part.slice(2, -2)));
    if (part.length > 2 && part.startsWith("`")) return element("code", {}, part.slice(1, -1));
    return plain(part);
  });
}

const ENTITIES = { "&amp;": "&", "&lt;": "<", "&gt;": ">" };

function plain(text) {
  return text.replace(/\\([\\`*_{}[\]()#+\-.!|<>~&$])/g, "$1").replace(/&(?:amp|lt|gt);/g, (entity) => ENTITIES[entity]);
}

byId("source").href = address;
document.title = `${name}: model card`;
const answer = await fetch(address);
if (answer.ok) {
  // Facts for hubs of models stand first, between lines of dashes.
  const text = (await answer.text()).replace(/^---\n[\s\S]*?\n---\n/, "");
  byId("text").append(...blocks(text.split(/\r?\n/)));
  byId("about").remove();
} else {
  byId("about").textContent = (await answer.json()).error;
}
