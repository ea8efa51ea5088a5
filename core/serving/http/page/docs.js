// Shows /openapi.json: each route with its body, its responses and its problems, and a form to send a request. Loads
// nothing from other hosts, and inserts texts as text, never as markup.

let api = null; // the OpenAPI document

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function code(text) {
  const shown = element("pre", "", element("code", text));
  shown.tabIndex = 0; // a box that scrolls must be reachable by keyboard
  return shown;
}

function pretty(value) {
  return JSON.stringify(value, null, 2);
}

function named(schema) {
  const name = (schema?.$ref ?? "").split("/").pop();
  return name ? api.components.schemas[name] : schema;
}

function exampleOf({ schema, examples }) {
  return examples ? Object.values(examples)[0].value : named(schema)?.examples?.[0];
}

function content(holder) {
  const parts = [];
  for (const [media, type] of Object.entries(holder.content ?? {})) {
    const about = named(type.schema)?.description;
    parts.push(element("p", `${media}${about ? ": " + about : ""}`));
    const example = exampleOf(type);
    if (example !== undefined) parts.push(code(pretty(example)));
  }
  return parts;
}

// ---- The form of a route

function field(label, made) {
  return element("label", `${label} `, made);
}

function parameterFields(parameters) {
  return parameters.map((parameter) => {
    const input = element("input");
    Object.assign(input, { name: parameter.name, required: true, autocomplete: "off", spellcheck: false });
    return field(parameter.name, input);
  });
}

function bodyField(body) {
  const [media, type] = Object.entries(body.content)[0];
  const example = exampleOf(type);
  const input = element("textarea");
  const lines = media.endsWith("ndjson"); // JSON lines: each record is one line
  input.value = example === undefined ? "" : lines ? JSON.stringify(example) : pretty(example);
  Object.assign(input, { name: "body", rows: lines ? 3 : 10, spellcheck: false });
  input.dataset.media = media;
  return field("Body", input);
}

async function send(form, method, path) {
  const url = path.replaceAll(/{(\w+)}/g, (_, name) => encodeURIComponent(form.elements[name].value));
  const headers = {};
  const token = document.getElementById("token").value;
  if (token) headers.Authorization = `Bearer ${token}`;
  const body = form.elements.body;
  if (body) headers["Content-Type"] = body.dataset.media;
  const began = performance.now();
  const response = await fetch(url, { method, headers, body: body?.value, cache: "no-store" });
  const text = await response.text();
  const title = `${response.status} ${response.statusText}, ${(performance.now() - began).toFixed(0)} ms`;
  return [element("p", title), ...(text ? [code(readable(text))] : [])];
}

function readable(text) {
  try {
    return pretty(JSON.parse(text));
  } catch {
    return text; // JSON lines, or metrics
  }
}

function formOf(method, path, operation) {
  const answer = element("div");
  answer.setAttribute("role", "status");
  const form = element("form", "", ...parameterFields(operation.parameters ?? []));
  if (operation.requestBody) form.append(bodyField(operation.requestBody));
  const button = element("button", `Send ${method.toUpperCase()}`);
  form.append(button, answer);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    answer.replaceChildren(element("p", "waiting for the answer …"));
    try {
      answer.replaceChildren(...(await send(form, method.toUpperCase(), path)));
    } catch {
      answer.replaceChildren(element("p", "The service does not answer."));
    } finally {
      button.disabled = false;
    }
  });
  return form;
}

// ---- Routes

function route(method, path, operation) {
  const title = element("summary", "", element("code", `${method.toUpperCase()} ${path}`), " ", operation.summary);
  const body = element("div", "", element("h2", "Try it"), formOf(method, path, operation));
  for (const parameter of operation.parameters ?? []) {
    const about = `${parameter.description ?? ""} ${parameter.schema?.pattern ?? ""}`;
    body.append(element("p", `${parameter.name}: ${about}`));
  }
  if (operation.requestBody) body.append(element("h2", "Body"), ...content(operation.requestBody));
  body.append(element("h2", "Responses"));
  for (const [status, response] of Object.entries(operation.responses)) {
    body.append(element("h3", `${status} ${response.description}`), ...content(response));
  }
  return element("details", "", title, body);
}

async function show() {
  const about = document.getElementById("about");
  try {
    api = await (await fetch("/openapi.json")).json();
    about.textContent = api.info.description;
    const routes = document.getElementById("routes");
    for (const [path, operations] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(operations)) routes.append(route(method, path, operation));
    }
  } catch (error) {
    about.textContent = `The document cannot be read: ${error.message}`;
  }
}

show();
