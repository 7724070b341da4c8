// The interactive parts of the pages: copying examples, and sending requests to the service.

const LONGEST = 200_000;

for (const span of document.querySelectorAll(".origin")) {
  span.textContent = location.origin;
}

for (const menu of document.querySelectorAll("details.menu")) {
  menu.addEventListener("click", (event) => {
    if (event.target.closest("a")) menu.open = false;
  });
}

if (navigator.clipboard) {
  for (const pre of document.querySelectorAll("pre")) {
    const text = pre.textContent;
    const button = make("button", "copy", "Copy");
    button.type = "button";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    pre.append(button);
  }
}

for (const form of document.forms) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
  form.addEventListener("input", (event) => {
    // All forms of the page share the credentials, which are stored nowhere else.
    if (["username", "password"].includes(event.target.name)) share(event.target.name, event.target.value);
  });
}

async function send(form) {
  const outcome = form.querySelector(".outcome");
  const button = form.querySelector("button");
  button.disabled = true;
  outcome.replaceChildren(make("p", "status", "Sending…"));
  try {
    const began = performance.now();
    const response = await fetch(address(form), {
      method: form.dataset.verb,
      headers: headers(form),
      body: form.elements.body?.files?.[0] ?? form.elements.body?.value,
      // Without the browser's own credentials: it would prompt for others after a 401.
      credentials: "omit",
      cache: "no-store",
    });
    const text = await response.text();
    show(outcome, response, text, performance.now() - began);
    keepId(text);
  } catch (error) {
    outcome.replaceChildren(make("p", "status failed", `The request could not be sent: ${error.message}`));
  } finally {
    button.disabled = false;
  }
}

function address(form) {
  const { id, query } = form.elements;
  const path = form.dataset.path.replace("{id}", () => encodeURIComponent(id.value.trim()));
  const search = query?.value.trim().replace(/^\?/, "");
  return search ? `${path}?${search}` : path;
}

function headers(form) {
  const found = new Headers();
  for (const line of form.elements.headers.value.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) found.append(line.slice(0, colon).trim(), line.slice(colon + 1).trim());
  }
  const { username, password } = form.elements;
  if (username.value || password.value) {
    const bytes = new TextEncoder().encode(`${username.value}:${password.value}`);
    found.set("Authorization", `Basic ${btoa(String.fromCharCode(...bytes))}`);
  }
  return found;
}

function show(outcome, response, text, milliseconds) {
  const status = `${response.status} ${response.statusText}`.trim();
  const line = make("p", response.ok ? "status" : "status failed", `${status} · ${Math.round(milliseconds)} ms`);
  const shown = make("pre", "", pretty(text).slice(0, LONGEST));
  const fields = make("pre", "", [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n"));
  const details = make("details", "");
  details.append(make("summary", "", "Headers"), fields);
  outcome.replaceChildren(line, ...(text ? [shown] : []), details);
}

// Unchanged if a round trip through JSON would alter the text, such as large numbers.
function pretty(text) {
  try {
    const value = JSON.parse(text);
    return JSON.stringify(value) === text ? JSON.stringify(value, null, 2) : text;
  } catch {
    return text;
  }
}

// Put the id of the last item into all forms, since the next request is probably about it.
function keepId(text) {
  try {
    const value = JSON.parse(text);
    const id = value.id ?? value.items?.[0]?.id;
    if (id) share("id", id);
  } catch {
    // A body that is not JSON has no id.
  }
}

function share(name, value) {
  for (const form of document.forms) {
    const field = form.elements[name];
    if (field) field.value = value;
  }
}

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}
