// The page of a running service: a list, and how it came to be. It asks its own server alone.

const at = (id) => document.getElementById(id);
const took = [];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

async function ask(path, body) {
  const key = at("key").value;
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const sent = body ? { method: "POST", body: JSON.stringify(body), headers: { ...headers, "Content-Type": "application/json" } } : { headers };
  const answer = await fetch(path, sent);
  if (answer.headers.get("content-type")?.startsWith("text/plain")) return answer.text();
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.message);
  return content;
}

function say(words, wrong = false) {
  at("say").textContent = words;
  at("say").className = wrong ? "wrong" : "";
}

const percent = (p) => (p >= 0.995 ? "100 %" : p < 0.01 ? "< 1 %" : `${Math.round(100 * p)} %`);
const signed = (number) => `${number < 0 ? "\u2212" : ""}${Math.abs(number).toFixed(2)}`;
const name = (item) => item.title || `#${item.id}`;
const known = (item) => Object.entries(item.attributes).map(([key, value]) => `${key}: ${value}`).join(" · ");

function card(item, ...more) {
  return element("li", {}, element("h3", {}, name(item)), element("p", {}, [item.id, known(item)].filter(Boolean).join(" · ")), ...more);
}

// A way down the tree, code by code. notes: lines of words under each code. doubted: the level in doubt. instead: codes written
// in its place, which branch off where they differ.
function path(codes, { notes = [], doubted = null, instead = null } = {}) {
  const step = 90, width = step * (codes.length + 1), height = instead ? 108 : 44 + 14 * Math.max(0, ...notes.map((note) => note.length));
  const words = `codes ${codes.join(", ")}` + (doubted === null ? "" : `; code ${doubted + 1} in doubt`) + (instead ? `; rewritten as ${instead.join(", ")}` : "");
  const svg = drawn("svg", { class: "draw", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words });
  svg.style.maxWidth = `${1.1 * width}px`;
  const x = (level) => step * (level + 1);
  const node = (level, y, code, kind, note = []) => {
    svg.append(drawn("circle", { cx: x(level), cy: y, r: 15, class: kind }), drawn("text", { x: x(level), y: y + 4 }, code));
    note.forEach((words, line) => svg.append(drawn("text", { x: x(level), y: y + 29 + 13 * line, class: "under" }, words)));
  };
  svg.append(drawn("circle", { cx: 20, cy: 24, r: 5 }));
  codes.forEach((code, level) => {
    const kind = doubted !== null && level >= doubted ? "doubted" : "";
    svg.append(drawn("line", { x1: level ? x(level - 1) + 15 : 25, y1: 24, x2: x(level) - 15, y2: 24, class: kind }));
    node(level, 24, code, kind, notes[level]);
  });
  if (instead) {
    const from = instead.findIndex((code, level) => code !== codes[level]);
    for (let level = from; from >= 0 && level < instead.length; level++) {
      const y1 = level === from ? 24 : 84;
      svg.append(drawn("line", { x1: level ? x(level - 1) + 13 : 25, y1: level === from ? y1 + 6 : y1, x2: x(level) - 15, y2: 84, class: "fresh" }));
      node(level, 84, instead[level], "fresh");
    }
  }
  return svg;
}

// The level in doubt, null for none, and what is said of a draft: words, and whether they doubt.
function doubts(draft) {
  if (!draft.location) return { level: null, said: [["the model does not reflect on this draft", false]] };
  const best = draft.location.indexOf(Math.max(...draft.location));
  const level = best === draft.codes.length ? null : best;
  const sure = percent(draft.location[best]);
  const place = level === null ? [`all codes look right (${sure})`, false] : [`code ${level + 1} looks wrong (${sure})`, true];
  const facts = Object.entries(draft.match).map(([key, p]) => (p >= 0.5 ? [`${key} looks right (${percent(p)})`, false] : [`${key} looks wrong (${percent(1 - p)})`, true]));
  const unsure = draft.entropy === undefined ? [] : [[`in doubt by ${draft.entropy.toFixed(2)} nats`, false]];
  return { level, said: [place, ...facts, ...unsure] };
}

const lines = (words, kind = "") => element("ul", {}, ...words.map((word) => element("li", { class: kind }, word)));
const sayings = (said) => element("ul", {}, ...said.map(([words, doubt]) => element("li", { class: doubt ? "doubt" : "" }, words)));

function written(how, item) {
  const found = how.items.find((one) => one.id === item.id);
  if (!found) return [element("p", {}, "This item is not among those explained.")];
  const notes = found.steps.map((s) => [percent(s.probability), `${s.items_left} left`]);
  const parts = [path(found.codes, { notes }), lines([`written with probability ${percent(Math.exp(found.log_prob))}`])];
  if (found.verifier) parts.push(lines([`the verifier adds ${found.verifier.toFixed(2)}`]));
  return parts;
}

function corrected(how, item) {
  const parts = [];
  const listed = how.items.find((one) => one.id === item.id);
  const draft = listed && listed.draft !== null ? how.drafts[listed.draft] : null;
  if (draft) {
    const doubt = doubts(draft);
    const rewritten = draft.corrected ? how.corrections.filter((one) => one.draft === listed.draft) : [];
    const instead = rewritten.find((one) => one.id !== draft.id);
    parts.push(element("p", {}, `Draft ${listed.draft + 1}, written with probability ${percent(Math.exp(draft.log_prob))}`));
    parts.push(path(draft.codes, { doubted: doubt.level, instead: instead?.codes }), sayings(doubt.said));
    if (rewritten.length) parts.push(lines(rewritten.slice(0, 3).map((one) => `rewritten as ${name(one)} (${one.id})`), "fresh"));
    else parts.push(lines([draft.corrected ? "looked at again, nothing better found" : "left as it is: other drafts were more in doubt"]));
  }
  for (const way of how.corrections.filter((one) => one.id === item.id && one.draft !== listed?.draft).slice(0, 2)) {
    const origin = how.drafts[way.draft];
    parts.push(element("p", { class: "fresh" }, `Also what draft ${way.draft + 1}, ${name(origin)}, was rewritten as`));
    parts.push(path(origin.codes, { doubted: doubts(origin).level, instead: way.codes }), sayings(doubts(origin).said));
  }
  return parts.length ? parts : [element("p", {}, "This item is not among the drafts that are shown.")];
}

// Bars from a middle line: what each kind of evidence adds to log p(right), or takes from it.
function evidence(added) {
  const kinds = Object.entries(added), row = 22, middle = 195, half = 95;
  const most = Math.max(0.01, ...kinds.map(([, nats]) => Math.abs(nats)));
  const words = `evidence, added to log p(right): ${kinds.map(([kind, nats]) => `${kind} ${nats < 0 ? "" : "+"}${signed(nats)}`).join(", ")}`;
  const svg = drawn("svg", { class: "draw bars", viewBox: `0 0 340 ${row * kinds.length}`, role: "img", "aria-label": words });
  kinds.forEach(([kind, nats], place) => {
    const y = row * place, width = (half * Math.abs(nats)) / most;
    svg.append(drawn("text", { x: 0, y: y + 15, class: "start" }, kind));
    svg.append(drawn("rect", { x: nats < 0 ? middle - width : middle, y: y + 5, width, height: 12, class: nats < 0 ? "against" : "for" }));
    svg.append(drawn("text", { x: 340, y: y + 15, class: "end" }, (nats < 0 ? "" : "+") + signed(nats)));
  });
  svg.append(drawn("line", { x1: middle, y1: 0, x2: middle, y2: row * kinds.length }));
  return svg;
}

function judged(how, item) {
  const found = how.items.find((one) => one.id === item.id);
  if (!found) return [element("p", {}, "This item is not among those explained.")];
  const doubt = doubts(found);
  return [
    element("p", {}, `${found.corrected ? "A correction" : `Draft ${found.draft + 1}`}, right with probability ${percent(Math.exp(found.score))}; that no draft is right: ${percent(how.none)}`),
    path(found.codes, { doubted: doubt.level }),
    sayings(doubt.said),
    element("p", {}, "What speaks for it and against it, added to log p(right)"),
    evidence(found.evidence),
  ];
}

const EXPLAINED = { written, corrected, judged };

function recommended(item, rank, request) {
  const how = element("div", { class: "how", hidden: "" });
  const button = element("button", { class: "more", type: "button", "aria-expanded": "false" }, "How it came about");
  button.addEventListener("click", async () => {
    const open = how.hidden;
    if (open && !how.childNodes.length) {
      try {
        const found = await ask(`/v1/explain/${request}`);
        how.append(...EXPLAINED[found.kind](found, item));
      } catch (error) {
        return say(error.message, true);
      }
    }
    how.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
  });
  const about = element("p", {}, [item.id, known(item)].filter(Boolean).join(" · "));
  const score = element("span", { class: "score" }, signed(item.score));
  return element("li", {}, element("div", { class: "head" }, element("h3", {}, `${rank}. ${name(item)}`), score, about, button), how);
}

async function history(body) {
  if (body.user_id) {
    const found = await ask(`/v1/users/${encodeURIComponent(body.user_id)}`);
    return [...found.before, ...found.events].reverse();
  }
  return (await Promise.all(body.history.map((item) => ask(`/v1/items/${encodeURIComponent(item)}`)))).reverse();
}

async function recommend(event) {
  event.preventDefault();
  const [items, times] = ["items", "times"].map((field) => at(field).value.split(/[\s,]+/).filter(Boolean));
  const body = { k: Number(at("k").value), filter_seen: at("seen").checked };
  if (items.length) body.history = items;
  else body.user_id = at("user").value.trim();
  if (times.length) body.times = times.map(Number);
  try {
    const started = performance.now();
    const answer = await ask("/v1/recommend", body);
    took.push(performance.now() - started);
    at("list").replaceChildren(...answer.items.map((item, place) => recommended(item, place + 1, answer.request_id)));
    at("model").textContent = answer.model;
    say(`${answer.items.length} items for ${body.user_id ?? `${items.length} items`}`);
    at("history").replaceChildren(...(await history(body)).map((item) => card(item)));
  } catch (error) {
    say(error.message, true);
  }
  strip();
}

async function suggest() {
  const prefix = at("user").value.trim();
  try {
    const { users } = await ask(`/v1/users?limit=10&prefix=${encodeURIComponent(prefix)}`);
    at("users").replaceChildren(...users.map((user) => element("option", { value: user })));
  } catch {
    at("users").replaceChildren();
  }
}

async function strip() {
  const recent = took.slice(-40);
  if (recent.length) {
    const most = Math.max(...recent);
    at("latency").textContent = `${Math.round(recent.at(-1))} ms`;
    at("median").textContent = `${Math.round([...recent].sort((a, b) => a - b)[recent.length >> 1])} ms`;
    const points = recent.map((ms, n) => `${(120 * n) / Math.max(1, recent.length - 1)},${23 - (22 * ms) / most}`).join(" ");
    at("spark").replaceChildren(drawn("polyline", { points }));
    at("spark").setAttribute("aria-label", `${recent.length} answers, at most ${Math.round(most)} ms`);
  }
  try {
    at("queue").textContent = /^redraft_queue_length (\S+)/m.exec(await ask("/metrics"))[1].replace(/\.0$/, "");
  } catch {
    at("queue").textContent = "?";
  }
}

at("key").value = sessionStorage.getItem("key") ?? "";
at("key").addEventListener("change", () => sessionStorage.setItem("key", at("key").value));
at("ask").addEventListener("submit", recommend);
at("user").addEventListener("input", suggest);
at("user").addEventListener("input", () => (at("items").value = ""));
ask("/readyz").then((found) => (at("model").textContent = found.model)).catch((error) => say(error.message, true));
suggest();
strip();
setInterval(strip, 2000);
