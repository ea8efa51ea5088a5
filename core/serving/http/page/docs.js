"use strict";

// Shows /openapi.json: each route with its body, its responses and its problems. Loads nothing from other hosts.

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function code(value) {
  const shown = element("pre", "", element("code", JSON.stringify(value, null, 2)));
  shown.tabIndex = 0; // a box that scrolls must be reachable by keyboard
  return shown;
}

function named(document_, schema) {
  const name = (schema?.$ref ?? "").split("/").pop();
  return name ? document_.components.schemas[name] : schema;
}

function content(document_, holder) {
  const parts = [];
  for (const [media, { schema, examples }] of Object.entries(holder.content ?? {})) {
    const model = named(document_, schema) ?? {};
    parts.push(element("p", `${media}${model.description ? ": " + model.description : ""}`));
    const example = examples ? Object.values(examples)[0].value : model.examples?.[0];
    if (example !== undefined) parts.push(code(example));
  }
  return parts;
}

function route(document_, method, path, operation) {
  const title = element("summary", "", element("code", `${method.toUpperCase()} ${path}`), " ", operation.summary);
  const body = element("div");
  for (const parameter of operation.parameters ?? []) {
    const about = `${parameter.description ?? ""} ${parameter.schema?.pattern ?? ""}`;
    body.append(element("p", `${parameter.name}: ${about}`));
  }
  if (operation.requestBody) {
    body.append(element("h2", "Body"), ...content(document_, operation.requestBody));
  }
  for (const [status, response] of Object.entries(operation.responses)) {
    body.append(element("h3", `${status} ${response.description}`), ...content(document_, response));
  }
  return element("details", "", title, body);
}

async function show() {
  const about = document.getElementById("about");
  try {
    const document_ = await (await fetch("/openapi.json")).json();
    about.textContent = document_.info.description;
    const routes = document.getElementById("routes");
    for (const [path, operations] of Object.entries(document_.paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        routes.append(route(document_, method, path, operation));
      }
    }
  } catch (error) {
    about.textContent = `The document cannot be read: ${error.message}`;
  }
}

show();
