// The playground: sends texts to the service, and shows its answers and its state. It loads nothing from other
// hosts, and inserts texts, labels and names as text, never as markup.

const SHOWN = 60; // adapters in the list
const TOP = 5; // labels shown; the others are in a closed <details>
const TYPING = 400; // milliseconds from the last key until the text is sent
const PERIOD = 1000; // milliseconds between two polls of the status
const FEW = 100; // adapters in a list that is polled that often; longer lists are polled less often
const LONGEST = 15000; // longest time between two polls while the service does not answer
const COLOURS = 6;
const TRIES = 5; // requests for a text while the service is busy
const LONGEST_WAIT = 60; // seconds that the page waits for a busy service before it tries again
const byName = new Intl.Collator(undefined, { numeric: true }).compare; // ner2 before ner10

const at = (id) => document.getElementById(id);
const chosen = new Set();
let served = null; // the served adapters; null until the first response
let token = null;
let asked = 0; // number of the latest request; answers to older ones are dropped
let question = null; // aborts the latest request

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function show(place, ...children) {
  place.replaceChildren(...children);
}

function write(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

// ---- Requests

class Refused extends Error {
  constructor(response, problem) {
    super(problem.detail ?? `the service answered ${response.status}`);
    const wait = Number(response.headers.get("Retry-After"));
    this.busy = [429, 503].includes(response.status) && wait > 0;
    this.wait = Math.min(LONGEST_WAIT, Math.ceil(wait)); // seconds
  }
}

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  const value = await response.json().catch(() => ({}));
  if (response.ok) return value;
  if (response.status === 401) askForToken(token === null ? "" : "The service does not have this token.");
  throw new Refused(response, value);
}

function askForToken(fault) {
  write(at("access-error"), fault);
  if (at("access").hidden) {
    at("access").hidden = false;
    at("token").focus();
  }
}

at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value;
  at("token").value = "";
  at("access").hidden = true;
  look();
  if (served?.length) ask();
});

// ---- Choice of adapters

function drawChoices() {
  if (served === null) return;
  const wanted = at("filter").value.trim().toLowerCase();
  const fits = (each) => `${each.name} ${each.task}`.toLowerCase().includes(wanted);
  const found = served.filter((each) => chosen.has(each.name) || fits(each));
  found.sort((a, b) => chosen.has(b.name) - chosen.has(a.name) || byName(a.name, b.name));
  const listed = found.slice(0, Math.max(SHOWN, chosen.size));
  const focused = document.activeElement?.value;
  const inside = at("choices").contains(document.activeElement);
  show(at("choices"), ...listed.map(choice));
  if (inside) at("choices").querySelector(`input[value="${CSS.escape(focused)}"]`)?.focus();
  const hidden = found.length - listed.length;
  const missed = served.length > 0 && !served.some(fits);
  if (served.length === 0) write(at("more"), "No adapters are served.");
  else if (missed) write(at("more"), "No other adapter matches.");
  else write(at("more"), hidden > 0 ? `and ${hidden} more; search by name` : "");
}

function choice(each) {
  const box = element("input", { type: "checkbox", value: each.name });
  box.checked = chosen.has(each.name);
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(each.name);
    else chosen.delete(each.name);
    ask();
  });
  return element("label", {}, box, each.name, element("small", {}, each.task));
}

at("filter").addEventListener("input", drawChoices);
at("filter").addEventListener("keydown", (event) => {
  if (event.key === "Enter") event.preventDefault();
});

// ---- Requests for a text

async function ask() {
  const mine = ++asked;
  const text = at("text").value;
  const adapters = (served ?? []).map((each) => each.name).filter((name) => chosen.has(name));
  question?.abort();
  drawCurl(text, adapters);
  if (adapters.length === 0) {
    pending(false);
    write(at("took"), served?.length ? "Choose an adapter." : "");
    show(at("answers"));
    return;
  }
  question = new AbortController();
  pending(true);
  try {
    const began = performance.now();
    const { results } = await answersTo(text, adapters, question.signal);
    if (mine !== asked) return;
    write(at("took"), `${(performance.now() - began).toFixed(0)} ms`);
    show(at("answers"), ...drawAnswers(text, results[0].answers));
  } catch (error) {
    if (mine !== asked || error.name === "AbortError") return;
    write(at("took"), "");
    const message = error instanceof Refused ? error.message : "The service does not answer.";
    show(at("answers"), element("p", { class: "error", role: "alert" }, message));
  } finally {
    if (mine === asked) pending(false);
  }
}

// Sends the text, and sends it again after the wait that a busy service asks for.
async function answersTo(text, adapters, signal) {
  for (let tries = 1; ; tries++) {
    write(at("took"), "asking …");
    try {
      return await call("/v1/predict", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ inputs: [{ text, adapters }] }),
        signal,
      });
    } catch (error) {
      if (!error.busy || tries === TRIES) throw error;
      await countDown(error.wait, signal);
    }
  }
}

async function countDown(seconds, signal) {
  for (let left = seconds; left > 0; left--) {
    write(at("took"), `The service is busy; asking again in ${left} s`);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    signal.throwIfAborted();
  }
}

function pending(is) {
  at("answers").setAttribute("aria-busy", String(is));
}

// ---- The request as a command line

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function drawCurl(text, adapters) {
  const parts = [`curl ${quoted(`${location.origin}/v1/predict`)}`, "-H 'Content-Type: application/json'"];
  if (token !== null) parts.push('-H "Authorization: Bearer $TOKEN"'); // the token itself is not shown
  parts.push(`-d ${quoted(JSON.stringify({ inputs: [{ text, adapters }] }))}`);
  write(at("curl-line"), parts.join(" \\\n  "));
  write(at("copied"), "");
}

at("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(at("curl-line").textContent);
    write(at("copied"), "Copied.");
  } catch {
    getSelection().selectAllChildren(at("curl-line")); // browsers allow the clipboard only on HTTPS and localhost
    write(at("copied"), "Selected; copy it with Ctrl+C.");
  }
});

let typing = null;
at("text").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(ask, TYPING);
});
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    at("ask").requestSubmit();
  }
});
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  ask();
});

// ---- Answers

// Versions of the same adapter stand side by side.
function drawAnswers(text, answers) {
  const groups = new Map();
  for (const answer of answers) {
    const name = answer.version.split("@")[0];
    groups.set(name, [...(groups.get(name) ?? []), answer]);
  }
  return [...groups.values()].flatMap((group) => {
    const articles = group.map((answer) => drawAnswer(text, answer));
    if (group.length === 1) return articles;
    const verdicts = new Set(group.map(verdictOf));
    const hint = verdicts.size === 1 ? "These versions agree." : "These versions differ.";
    return [element("div", { class: "versions" }, ...articles, element("p", { class: "hint" }, hint))];
  });
}

// The answer without scores, to compare versions.
function verdictOf({ adapter, version, task, score, scores, nearest, ...record }) {
  const { entities, ...rest } = record;
  const found = isEntities(entities) ? entities.map(({ start, end, label }) => [start, end, label]) : entities;
  return JSON.stringify([found, rest]);
}

function drawAnswer(text, answer) {
  const { adapter, version, task, ...record } = answer;
  const about = version === adapter ? task : `${version} · ${task}`;
  const title = element("h3", {}, adapter, element("small", {}, about));
  return element("article", {}, title, ...drawRecord(text, record));
}

function drawRecord(text, record) {
  const { entities, label, score, scores, in_scope, nearest, ...rest } = record;
  const parts = [];
  if (isEntities(entities)) parts.push(...drawEntities(text, entities));
  else if (entities !== undefined) rest.entities = entities;
  if (typeof label === "string") parts.push(...drawLabel({ label, score, scores, in_scope, nearest }));
  else Object.assign(rest, { label, score, scores, in_scope, nearest }); // JSON.stringify leaves out undefined values
  const others = JSON.stringify(rest, null, 2);
  if (parts.length === 0 || others !== "{}") parts.push(element("pre", {}, others));
  return parts;
}

function isEntities(found) {
  const sound = (each) => Number.isInteger(each?.start) && Number.isInteger(each?.end) && each.label !== undefined;
  return Array.isArray(found) && found.every(sound);
}

// Offsets count Unicode characters, as in Python. JavaScript strings count UTF-16 units, so the text is split first.
function drawEntities(text, entities) {
  const characters = Array.from(text);
  const ordered = [...entities].sort((a, b) => a.start - b.start || b.end - a.end);
  const reading = element("p", { class: "reading", dir: "auto" });
  const overlapping = [];
  let reached = 0;
  for (const each of ordered) {
    if (each.start < reached) {
      overlapping.push(each);
      continue;
    }
    reading.append(characters.slice(reached, each.start).join(""));
    const mark = element("mark", { class: `c${colourOf(each.label)}` });
    mark.append(characters.slice(each.start, each.end).join(""), element("small", {}, String(each.label)));
    if (typeof each.score === "number") mark.append(element("small", { class: "score" }, percent(each.score)));
    reading.append(mark);
    reached = each.end;
  }
  reading.append(characters.slice(reached).join(""));
  const parts = [reading];
  if (entities.length === 0) parts.push(element("p", { class: "hint" }, "No entities."));
  if (overlapping.length > 0) {
    const names = overlapping.map((each) => `${characters.slice(each.start, each.end).join("")} (${each.label})`);
    parts.push(element("p", { class: "hint" }, `Within others: ${names.join(", ")}`));
  }
  return parts;
}

function colourOf(label) {
  let sum = 0;
  for (const letter of String(label)) sum = (31 * sum + letter.codePointAt(0)) % 9973;
  return sum % COLOURS;
}

function drawLabel(record) {
  const out = record.in_scope === false;
  const parts = [element("p", { class: out ? "verdict out" : "verdict" }, out ? "out of scope" : record.label)];
  const scores = Object.entries(record.scores ?? {}).filter(([, score]) => typeof score === "number");
  scores.sort((a, b) => b[1] - a[1]);
  if (out) {
    const sure = typeof record.score === "number" && record.nearest ? ` (${percent(record.score)})` : "";
    parts.push(element("p", { class: "hint" }, `Not one of the intents${sure}; the nearest are:`));
  }
  const { nearest } = record;
  if (scores.length === 0 && typeof nearest?.score === "number") scores.push([nearest.label, nearest.score]);
  if (scores.length > 0) parts.push(drawScores(scores.slice(0, TOP)));
  else if (typeof record.score === "number") parts.push(drawScores([[record.label, record.score]]));
  const rest = scores.slice(TOP);
  if (rest.length > 0) {
    parts.push(element("details", {}, element("summary", {}, `${rest.length} more`), drawScores(rest)));
  }
  return parts;
}

function drawScores(scores) {
  const lines = scores.map(([label, score]) => {
    const bar = drawBar(element("span", { class: "bar", "aria-hidden": "true" }, element("span")), score);
    const name = element("span", { class: "name" }, label);
    return element("li", {}, name, bar, element("span", { class: "value" }, percent(score)));
  });
  return element("ul", { class: "scores" }, ...lines);
}

function drawBar(bar, share) {
  bar.firstElementChild.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  return bar;
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

// ---- Status of the service

let wait = PERIOD;
let next = null;
let looking = false;

async function look() {
  clearTimeout(next);
  if (looking || document.hidden) return;
  looking = true;
  try {
    const [status, list] = await Promise.all([call("/v1/status"), call("/v1/adapters")]);
    wait = PERIOD * Math.ceil((1 + list.adapters.length) / FEW);
    drawStatus(status);
    drawServed(list.adapters);
  } catch (error) {
    wait = Math.min(LONGEST, 2 * wait);
    const refused = error instanceof Refused;
    at("state").dataset.state = "away";
    write(at("state"), refused ? error.message : "the service does not answer; trying again");
  } finally {
    looking = false;
    if (at("access").hidden) next = setTimeout(look, wait);
  }
}

function drawStatus(status) {
  const queue = status.queue;
  at("state").dataset.state = status.status;
  write(at("state"), status.status);
  write(at("rate"), status.requests_per_second.toFixed(1));
  write(at("waiting"), String(queue.texts));
  write(at("wait"), milliseconds(queue.wait_ms_p95));
  write(at("queue"), `${queue.tokens} of ${queue.limit_tokens} tokens`);
  drawBar(at("queue-bar"), queue.tokens / queue.limit_tokens);
  write(at("about"), `${status.backbone}, ${status.precision} on ${status.device}`);
}

function drawServed(unsorted) {
  const list = [...unsorted].sort((a, b) => byName(a.name, b.name));
  const names = (all) => all.map((each) => each.name).join("\n");
  const first = !served?.length && list.length > 0;
  const changed = served === null || names(list) !== names(served);
  served = list;
  if (changed) {
    const unloaded = [...chosen].filter((name) => !list.some((each) => each.name === name));
    for (const name of unloaded) chosen.delete(name);
    if (unloaded.length > 0 && !first) ask();
    if (first) for (const each of served.slice(0, 3)) chosen.add(each.name);
    drawChoices();
  }
  const busiest = [...served].sort((a, b) => b.requests_per_second - a.requests_per_second).slice(0, SHOWN);
  show(at("served"), ...busiest.map(drawRow));
  write(at("unseen"), list.length > SHOWN ? `and ${list.length - SHOWN} more with fewer requests` : "");
  if (first) ask();
}

function drawRow(each) {
  const about = each.version === each.name ? each.task : each.version;
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, each.name, element("small", {}, about)),
    element("td", {}, each.tier),
    element("td", { class: "number" }, each.requests_per_second.toFixed(1)),
    element("td", { class: "number" }, milliseconds(each.p95_ms)),
  );
}

function milliseconds(value) {
  return value === null ? "–" : `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

document.addEventListener("visibilitychange", look);
look();
