// Elements from words. Every text becomes a text node, never markup: file names and labels come from outside.

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.includes("-")) made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

// A name from outside, whose direction of writing does not spill over into its surroundings.
export function named(text) {
  return element("bdi", {}, text);
}

export function byId(id) {
  return document.getElementById(id);
}

export function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)}%`;
}

export function counted(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

// "a, b and c", of which a long list is cut short.
export function listed(words, most = 5) {
  const shown = words.length > most ? [...words.slice(0, most), `${words.length - most} more`] : words;
  return shown.length > 1 ? `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}` : shown.join("");
}

let unnamed = 0;

// A slider with its name and its value in words; "show" is told its value now and whenever it is moved.
export function slider(words, { min = 0, max = 100, step = 1, value, text, show }) {
  const id = `slider-${(unnamed += 1)}`;
  const output = element("output", { htmlFor: id });
  const input = element("input", { id, type: "range" });
  Object.assign(input, { min, max, step, value });
  const moved = () => {
    output.textContent = text(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
    show(Number(input.value));
  };
  input.addEventListener("input", moved);
  moved();
  return element("p", { className: "slider" }, element("label", { htmlFor: id }, words), input, output);
}
