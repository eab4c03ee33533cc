// Questions to the server, and its answers; what it refuses is an Error with the server's own sentence.

const TRIES = 8;
const LONGEST_WAIT = 10;

export class Refused extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

// The server answers a right token with a cookie that no script can read.
export async function showToken(token) {
  const answer = await fetch(`/?token=${encodeURIComponent(token)}`, { cache: "no-store" }).catch(() => null);
  if (!answer?.ok) throw new Refused(answer ? "That is not the token of this server." : "The server does not answer.", answer?.status ?? 0);
}

export function models() {
  return asked("/v1/models");
}

// What a model says of one image: the result with the model's name. "waiting" is told the seconds until a busy server is asked again.
export async function predict(image, name, { model, top, explain = false, mask = false, signal, waiting } = {}) {
  const address = new URL("/v1/predict", location.origin);
  const wanted = { model, ...(top && { top }), ...(explain && { explain }), ...(mask && { mask }) };
  for (const [key, value] of Object.entries(wanted)) address.searchParams.set(key, value);
  for (let tried = 1; ; tried += 1) {
    const body = new FormData();
    body.append("files", image, name);
    try {
      const found = await asked(address, { method: "POST", body, signal });
      // On their way, browsers write some letters of names otherwise.
      return readable({ model: found.model, ...found.results[0], path: name });
    } catch (problem) {
      if (problem.status !== 503 || tried === TRIES) throw problem;
      const seconds = Math.min(problem.seconds || tried, LONGEST_WAIT);
      waiting?.(seconds);
      await new Promise((done) => setTimeout(done, 1000 * seconds));
      signal?.throwIfAborted();
    }
  }
}

function readable(result) {
  if (!("error" in result)) return result;
  throw Object.assign(new Refused(result.error, 200), { unreadable: true });
}

export async function asked(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, { credentials: "same-origin", ...options });
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Refused("The server does not answer. Is it still running?", 0);
  }
  const told = await answer.json().catch(() => ({ error: `The server answered ${answer.status} without a reason.` }));
  if (answer.ok && !("error" in told)) return told;
  const refused = new Refused(told.error, answer.status);
  refused.seconds = Number(answer.headers.get("Retry-After")) || 0;
  throw refused;
}
