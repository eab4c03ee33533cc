// The API in words, made in the browser from /openapi.json, each operation with a line for a shell.

import { asked, models } from "./api.js";
import { TOKEN, quoted } from "./copying.js";
import { byId, element } from "./elements.js";

const VERBS = ["get", "post", "put", "delete"];

function operation(path, verb, said) {
  const title = element("h2", {}, element("span", { className: "verb" }, verb.toUpperCase()), " ", element("code", {}, path));
  return element(
    "section",
    { className: "operation prose" },
    title,
    (said.description ?? said.summary ?? "").split("\n\n").map((paragraph) => element("p", {}, ...withCode(paragraph))),
    said.parameters?.length > 0 && parameters(said.parameters),
    said.requestBody && bodies(said.requestBody.content),
    answersOf(said.responses ?? {}),
    element("h3", {}, "With curl"),
    element("pre", { tabIndex: 0, "aria-label": `A curl command for ${verb} ${path}` }, curlOf(path, verb, said)),
  );
}

function withCode(text) {
  return text.split("`").map((part, place) => (place % 2 ? element("code", {}, part) : part));
}

function parameters(all) {
  const rows = all.map(({ name, in: place, required, description = "", schema = {} }) => {
    const usual = schema.default !== undefined && `${schema.default} when not given`;
    return [name, place, [kindOf(schema), usual, required && "required"].filter(Boolean).join(", "), description];
  });
  return [element("h3", {}, "Parameters"), table(["Name", "In", "What", "Meaning"], rows)];
}

function bodies(content) {
  const rows = Object.entries(content).map(([kind, { schema = {} }]) => [kind, fieldsOf(schema)]);
  return [element("h3", {}, "Body"), table(["Type", "Fields"], rows)];
}

function answersOf(responses) {
  const rows = Object.entries(responses).map(([status, { description = "" }]) => [status, description]);
  return [element("h3", {}, "Answers"), table(["Status", "Meaning"], rows)];
}

function fieldsOf({ properties = {}, required = [], $ref }) {
  if ($ref) return $ref.split("/").at(-1);
  const fields = Object.entries(properties).map(([name, schema]) => {
    return `${name} (${kindOf(schema)}${required.includes(name) ? ", required" : ""})`;
  });
  return fields.join(", ") || "any";
}

function kindOf({ type, format, items, enum: choices, anyOf, minimum, maximum }) {
  if (anyOf) return anyOf.map(kindOf).join(" or ");
  if (choices) return choices.join(" | ");
  const bounds = [minimum !== undefined && `at least ${minimum}`, maximum !== undefined && `at most ${maximum}`].filter(Boolean);
  return [items ? `list of ${kindOf(items)}` : (format ?? type ?? "any"), ...bounds].join(", ");
}

function table(names, rows) {
  const head = element("tr", {}, names.map((name) => element("th", { scope: "col" }, name)));
  const body = rows.map((cells) => element("tr", {}, cells.map((cell) => element("td", {}, cell))));
  const whole = element("table", {}, element("thead", {}, head), element("tbody", {}, body));
  return element("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": names.join(", ") }, whole);
}

function curlOf(path, verb, { requestBody }) {
  const address = quoted(location.origin + path.replace(/\{\w+\}/g, "NAME"));
  const kinds = Object.keys(requestBody?.content ?? {});
  const asJson = " -H 'Content-Type: application/json' -d @request.json";
  const sent = kinds.includes("multipart/form-data") ? " -F files=@photo.jpg" : kinds.length ? asJson : "";
  const method = verb === "get" || sent ? "" : ` -X ${verb.toUpperCase()}`;
  return `curl${method}${locked ? TOKEN : ""}${sent} ${address}`;
}

let locked = false;

try {
  const [{ paths }, { token }] = await Promise.all([asked("/openapi.json"), models()]);
  locked = token;
  byId("about").textContent = "Whatever the page does, a program can do. Errors are told as one sentence in \"error\".";
  for (const [path, operations] of Object.entries(paths)) {
    for (const verb of VERBS) if (operations[verb]) byId("operations").append(operation(path, verb, operations[verb]));
  }
} catch (problem) {
  byId("about").textContent = problem.message;
}
