// What a person takes from the page to their own program: an answer as JSON, and the request as a line for a shell.

import { byId, element } from "./elements.js";

// What "sightline predict --json" prints of an image, or of several as a list.
export function jsonOf(found) {
  return JSON.stringify(Array.isArray(found) ? found.map(plain) : plain(found), null, 2);
}

function plain({ model, size, mask, colours, explanation, ...result }) {
  return result;
}

// What is added for a server that asks for its token.
export const TOKEN = ' -H "Authorization: Bearer $SIGHTLINE_TOKEN"';

// For a POSIX shell. In the name, curl itself reads quotes and backslashes.
export function curlOf(name, model, locked) {
  const address = `${location.origin}/v1/predict?model=${encodeURIComponent(model)}`;
  const file = `files=@"${name.replace(/[\\"]/g, "\\$&")}"`;
  return `curl${locked ? TOKEN : ""} -F ${quoted(file)} ${quoted(address)}`;
}

// One word for a POSIX shell.
export function quoted(word) {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

// A button that copies what "text" gives, and says so; where the browser forbids it, the text is shown to be copied by hand.
export function copyButton(words, text) {
  const button = element("button", { type: "button", className: "quiet" }, words);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
      byId("status").textContent = `${words}: copied.`;
    } catch {
      const shown = element("textarea", { readOnly: true, rows: 6, "aria-label": `${words}, to be copied by hand` });
      shown.value = text();
      button.replaceWith(shown);
      shown.focus();
      shown.select();
      return;
    }
    setTimeout(() => (button.textContent = words), 2000);
  });
  return button;
}
