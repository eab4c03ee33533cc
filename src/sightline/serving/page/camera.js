// The camera, answered for as it moves: one question at a time, the next one when the last is answered.

import { predict } from "./api.js";
import { answers, asking, inWords } from "./answers.js";
import { byId, element } from "./elements.js";
import { Picture } from "./picture.js";

// Pixels of the longer side that is sent, and milliseconds between the beginnings of two questions at least.
const SIDE = 640;
const PAUSE = 100;
// What is seen is told to a screen reader when it changes, and no more often than this.
const TOLD_EVERY = 3000;

export class Camera {
  // "model" gives the model that is chosen, "said" announces, "kept" takes a picture as a file.
  constructor({ model, said, kept }) {
    Object.assign(this, { model, said, kept });
    this.video = byId("video");
    this.picture = new Picture(byId("camera-stage"));
    this.running = null;
    this.told = { words: "", at: 0 };
    byId("stop").addEventListener("click", () => this.stop());
    byId("keep").addEventListener("click", () => this.keep());
    document.addEventListener("visibilitychange", () => document.hidden && this.running && this.stop());
  }

  async start() {
    if (this.running) return;
    this.running = new AbortController();
    const { signal } = this.running;
    byId("camera").hidden = false;
    byId("stop").focus({ preventScroll: true });
    byId("camera").scrollIntoView({ block: "nearest" });
    this.show(element("p", { className: "lead busy" }, "Starting the camera…"));
    try {
      if (!navigator.mediaDevices) throw new Error("A browser gives its camera to https and to localhost only.");
      const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      if (signal.aborted) return stopped(stream);
      this.stream = stream;
      this.video.srcObject = stream;
      await this.video.play();
      this.picture.sized([this.video.videoWidth, this.video.videoHeight]);
      await this.look(signal);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.release();
      const why = { NotAllowedError: "The browser was not allowed to use the camera.", NotFoundError: "There is no camera." }[problem.name];
      this.show(element("p", { className: "notice poor" }, why ?? problem.message));
      this.said(`Camera: ${why ?? problem.message}`);
    }
  }

  async look(signal) {
    for (let last = null; !signal.aborted; ) {
      const model = this.model();
      if (model !== last) this.picture.clear();
      last = model;
      const began = performance.now();
      const [frame, size] = await this.frame();
      const found = await predict(frame, "camera.jpg", { ...asking(model), signal });
      if (signal.aborted) return;
      const took = performance.now() - began;
      this.picture.sized(found.size ?? size);
      this.show(...answers(found, model, this.picture, true).filter(Boolean));
      byId("camera-speed").textContent = `Answered in ${Math.round(took)} ms`;
      this.tell(inWords(found, model.task));
      await new Promise((done) => setTimeout(done, Math.max(0, PAUSE - took)));
    }
  }

  // What the camera sees now as a JPEG, and its width and height.
  async frame() {
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, SIDE / Math.max(videoWidth, videoHeight));
    const canvas = element("canvas");
    canvas.width = Math.max(1, Math.round(videoWidth * scale));
    canvas.height = Math.max(1, Math.round(videoHeight * scale));
    canvas.getContext("2d").drawImage(this.video, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
    return [blob, [canvas.width, canvas.height]];
  }

  async keep() {
    if (!this.video.videoWidth) return;
    const [frame] = await this.frame();
    const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
    this.kept(new File([frame], `camera ${time}.jpg`, { type: "image/jpeg" }));
  }

  show(...elements) {
    byId("camera-answer").replaceChildren(...elements);
  }

  tell(words) {
    const now = performance.now();
    const what = words.replace(/\d+%/g, "");
    if (what === this.told.words || now - this.told.at < TOLD_EVERY) return;
    this.told = { words: what, at: now };
    this.said(`Camera: ${words}`);
  }

  stop() {
    this.running?.abort();
    this.release();
    byId("camera").hidden = true;
    byId("live").focus();
    this.said("The camera is off.");
  }

  release() {
    this.running = null;
    stopped(this.stream);
    this.stream = null;
    this.video.srcObject = null;
  }
}

function stopped(stream) {
  stream?.getTracks().forEach((track) => track.stop());
}
