// The page at "/": which model answers, how images come in, and the list of their results.

import { models, showToken } from "./api.js";
import { TASKS, isOfPlaces } from "./answers.js";
import { Camera } from "./camera.js";
import { copyButton, jsonOf } from "./copying.js";
import { byId, counted, element, listed, named } from "./elements.js";
import { Result } from "./result.js";

// Images that are asked about at once; more would only wait in the server's queue.
const AT_ONCE = 4;
// Of no more images than this the heat map is asked for without being told to: it takes the model many passes.
const EXPLAINED_AT_ONCE = 3;
const SHOWN_LABELS = 6;

const state = { models: [], chosen: null, results: [], waiting: [], asking: 0, locked: false };

// ---- the models ----------------------------------------------------------------------------------------------------

async function load() {
  try {
    const found = await models();
    state.models = found.models;
    state.locked = found.token;
    byId("token").hidden = true;
    byId("give").hidden = false;
    const select = byId("model");
    select.replaceChildren(...state.models.map(({ name }) => element("option", { value: name }, name)));
    byId("chooser").hidden = state.models.length < 2;
    choose(state.models.find((model) => model.default) ?? state.models[0]);
  } catch (problem) {
    byId("about").textContent = problem.message;
    if (problem.status === 503) setTimeout(load, 1000 * (problem.seconds || 2));
    if (problem.status !== 401) return;
    byId("give").hidden = true;
    byId("token").hidden = false;
    byId("secret").focus();
  }
}

function choose(model) {
  state.chosen = model;
  byId("model").value = model.name;
  document.title = `${model.name}: Sightline`;
  const count = counted(model.labels.length, "label");
  const what = TASKS[model.task] ?? model.task;
  const examples = named(listed(model.labels, SHOWN_LABELS));
  byId("about").replaceChildren(element("strong", {}, named(model.name)), ` ${what}. It knows ${count}: `, examples, ".");
  byId("labels").hidden = model.labels.length <= SHOWN_LABELS;
  byId("labels").querySelector("ul").replaceChildren(...model.labels.map((label) => element("li", {}, named(label))));
  linked(byId("report"), model.report, `/v1/models/${encodeURIComponent(model.name)}/report`);
  linked(byId("card"), model.card, `/card/${encodeURIComponent(model.name)}`);
  const unfit = byId("unfit");
  unfit.hidden = !model.unfit?.length;
  const reasons = (model.unfit ?? []).map((sentence) => element("p", {}, named(sentence)));
  unfit.replaceChildren(element("p", { className: "strong" }, "This model is marked as unfit"), ...reasons);
}

function linked(link, there, address) {
  link.hidden = !there;
  link.href = address;
}

// ---- images and results --------------------------------------------------------------------------------------------

function take(files) {
  const images = [...files];
  if (!images.length || !state.chosen) return;
  const several = state.models.length > 1;
  const how = { said, removed, several, locked: () => state.locked };
  const made = images.map((file) => new Result(file, state.chosen, how));
  state.results.unshift(...made);
  byId("list").prepend(...made.map(({ item }) => item));
  shownResults();
  const explained = made.length <= EXPLAINED_AT_ONCE && !isOfPlaces(state.chosen);
  state.waiting.push(...made.map((result) => () => result.ask(explained)));
  made[0].item.scrollIntoView({ block: "nearest" });
  next();
}

function next() {
  while (state.asking < AT_ONCE && state.waiting.length) {
    state.asking += 1;
    const ask = state.waiting.shift();
    ask().finally(() => {
      state.asking -= 1;
      next();
    });
  }
  const left = state.asking + state.waiting.length;
  byId("progress").textContent = left && state.results.length > 1 ? `${counted(left, "image")} to go` : "";
}

function removed(result) {
  const place = state.results.indexOf(result);
  state.results.splice(place, 1);
  shownResults();
  (state.results[Math.min(place, state.results.length - 1)]?.title ?? byId("choose")).focus();
}

function shownResults() {
  byId("results").hidden = !state.results.length;
}

// What a screen reader is told; what comes at the same time is told together.
const news = [];

function said(words) {
  news.push(words);
  if (news.length > 1) return;
  setTimeout(() => {
    byId("status").textContent = news.length > 3 ? `${news.length} answers are there.` : news.join(". ");
    news.length = 0;
  }, 400);
}

// What was dropped, without folders, which the browser would fail to send.
function dropped({ items }) {
  const files = [...items].filter((item) => item.kind === "file");
  const kept = files.filter((item) => !item.webkitGetAsEntry?.()?.isDirectory);
  if (kept.length < files.length) said("Folders are not taken: drop the images in them.");
  return kept.map((item) => item.getAsFile());
}

// ---- the ways in ---------------------------------------------------------------------------------------------------

function listen() {
  for (const [button, input] of [["choose", "files"], ["photograph", "camera-file"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", ({ target }) => {
      take(target.files);
      target.value = "";
    });
  }
  byId("model").addEventListener("change", ({ target }) => choose(state.models.find(({ name }) => name === target.value)));
  byId("clear").addEventListener("click", () => {
    for (const result of state.results.splice(0)) result.close();
    shownResults();
    byId("choose").focus();
  });
  byId("with-all").prepend(copyButton("Copy all JSON", () => jsonOf(state.results.map(({ found }) => found).filter(Boolean))));
  byId("token").addEventListener("submit", async (event) => {
    event.preventDefault();
    const problem = byId("token-problem");
    problem.textContent = "";
    try {
      await showToken(byId("secret").value.trim());
      await load();
    } catch (refused) {
      problem.textContent = refused.message;
    }
  });
  document.addEventListener("paste", ({ clipboardData }) => take(clipboardData.files));
  const dropping = (on) => document.body.classList.toggle("dropping", on);
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    dropping(true);
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || dropping(false));
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    dropping(false);
    take(dropped(event.dataTransfer));
  });
  const camera = new Camera({ model: () => state.chosen, said, kept: (file) => take([file]) });
  byId("live").addEventListener("click", () => state.chosen && camera.start());
}

listen();
load();
