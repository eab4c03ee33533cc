// One image as a card: the picture, what the model says of it, why, and what can be done with that.

import { predict } from "./api.js";
import { answers, asking, inWords } from "./answers.js";
import { copyButton, curlOf, jsonOf } from "./copying.js";
import { element, named } from "./elements.js";
import { explanation } from "./explanation.js";
import { Picture } from "./picture.js";

export class Result {
  // "file" is an image, "model" as the server describes it; "said" is told what to announce, "removed" that the card is gone.
  constructor(file, model, { said, removed, locked, several }) {
    Object.assign(this, { file, model, said, locked });
    this.found = null;
    this.gone = new AbortController();
    this.picture = Picture.of(file);
    this.title = element("h3", { tabIndex: -1 }, named(file.name));
    this.body = element("div", { "aria-busy": "true" }, element("p", { className: "lead busy" }, "Waiting…"));
    this.why = element("div");
    this.actions = element("p", { className: "row actions" });
    this.remove = element("button", { type: "button", className: "quiet", "aria-label": `Remove ${file.name}` }, "Remove");
    this.remove.addEventListener("click", () => {
      this.close();
      removed(this);
    });
    this.actions.append(this.remove);
    const by = several && element("p", { className: "small" }, "By ", named(model.name));
    const side = element("div", { className: "side" }, this.title, by, this.body, this.why, this.actions);
    this.item = element("li", {}, element("article", { className: "result" }, this.picture.element, side));
  }

  // Asks the server. Never throws: what goes wrong stands on the card.
  async ask(explainAtOnce) {
    const { file, model } = this;
    this.busy(this.body, "Looking…");
    const waiting = (seconds) => this.busy(this.body, `The server is busy. Asking again in ${seconds} s…`);
    try {
      const found = await predict(file, file.name, { ...asking(model), signal: this.gone.signal, waiting });
      if (found.size) this.picture.sized(found.size);
      this.body.replaceChildren(...answers(found, model, this.picture).filter(Boolean));
      this.found = found;
      this.offer();
      this.said(`${file.name}: ${inWords(found, model.task)}`);
      if (model.explains && explainAtOnce) await this.explain();
    } catch (problem) {
      if (problem.name !== "AbortError") this.failed(this.body, problem);
    } finally {
      this.body.removeAttribute("aria-busy");
    }
  }

  // What can be done with an answer.
  offer() {
    const { file, found, model, locked } = this;
    const why = element("button", { type: "button" }, "Show why");
    why.addEventListener("click", () => this.explain());
    this.whyButton = why;
    const copy = [copyButton("Copy JSON", () => jsonOf(found)), copyButton("Copy curl", () => curlOf(file.name, model.name, locked()))];
    this.actions.prepend(...(model.explains ? [why] : []), ...copy);
  }

  async explain() {
    const { file, model } = this;
    const focused = document.activeElement === this.whyButton;
    this.whyButton.remove();
    this.busy(this.why, "Asking why. This takes the model a moment…");
    const waiting = (seconds) => this.busy(this.why, `The server is busy. Asking again in ${seconds} s…`);
    try {
      const found = await predict(file, file.name, { model: model.name, explain: true, signal: this.gone.signal, waiting });
      this.why.replaceChildren(explanation(found.explanation, this.picture));
      this.said(`${file.name}: the heat map is shown.`);
      if (focused) this.picture.controls.querySelector("input")?.focus();
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.failed(this.why, problem);
      this.actions.prepend(this.whyButton);
    }
  }

  busy(place, words) {
    place.replaceChildren(element("p", { className: "lead busy" }, words));
  }

  failed(place, problem) {
    const what = element("p", { className: "strong" }, problem.unreadable ? "This image cannot be used" : "No answer");
    place.replaceChildren(element("div", { className: "notice poor" }, what, element("p", {}, named(problem.message))));
    this.said(`${this.file.name}: ${what.textContent}. ${problem.message}`);
  }

  close() {
    this.gone.abort();
    this.picture.close();
    this.item.remove();
  }
}
