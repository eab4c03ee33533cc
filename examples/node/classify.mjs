// Images in, labels and scores out, with a file that `sightline export MODEL --standalone` wrote:
//   node classify.mjs MODEL-standalone.onnx photo.jpg...
// One line of JSON for each image, as `sightline predict --json` prints it.
import { readFile } from "node:fs/promises";
import ort from "onnxruntime-node";
import { readMetadata } from "./metadata.mjs";
import { readPixels } from "./pixels.mjs";

const [modelPath, ...imagePaths] = process.argv.slice(2);
if (imagePaths.length === 0) {
  console.error("Usage: node classify.mjs MODEL-standalone.onnx IMAGE...");
  process.exit(2);
}

const model = await readFile(modelPath);
const { task, labels, decision } = readMetadata(model);
const session = await ort.InferenceSession.create(model);

for (const path of imagePaths) {
  console.log(JSON.stringify({ path, ...(await answer(path)) }));
}

async function answer(path) {
  try {
    const { width, height, data } = await readPixels(path);
    const image = new ort.Tensor("uint8", data, [height, width, 3]);
    const { probabilities } = await session.run({ image });
    const scored = labels.map((label, place) => ({ label, score: probabilities.data[place] }));
    const predictions = scored.filter(isGiven).sort((one, other) => other.score - one.score);
    return { predictions };
  } catch (error) {
    process.exitCode = 1;
    return { error: error.message };
  }
}

// A classifier ranks all its labels; a tagger gives those that reach their own threshold.
function isGiven({ label, score }) {
  return task !== "tag" || score >= decision.thresholds[label];
}
