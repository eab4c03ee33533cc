// What an ONNX file says of itself. ONNX Runtime for JavaScript does not tell, so it is read from the file, which is a Protocol
// Buffers message: a key before each value, a length before each text. Field 14 of the model holds pairs of key (1) and value (2).
const METADATA = 14;
const JSON_KEYS = ["labels", "prepare", "decision", "licences", "unfit"];

export function readMetadata(bytes) {
  const texts = {};
  for (const { number, body } of fields(bytes)) {
    if (number !== METADATA) continue;
    const [key, value] = [...fields(body)].map((field) => field.body.toString("utf8"));
    texts[key] = JSON_KEYS.includes(key) ? JSON.parse(value) : value;
  }
  if (!texts.labels) throw new Error("The file names no labels: make it with `sightline export MODEL --standalone`.");
  return texts;
}

function* fields(bytes) {
  let place = 0;
  const number = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[place++];
      value += (byte % 128) * factor;
      if (byte < 128) return value;
    }
  };
  while (place < bytes.length) {
    const key = number();
    const kind = key % 8;
    const length = kind === 2 ? number() : kind === 1 ? 8 : kind === 5 ? 4 : (number(), 0);
    yield { number: Math.floor(key / 8), body: bytes.subarray(place, place + length) };
    place += length;
  }
}
