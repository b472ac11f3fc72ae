// Shows the parts that the server streams. Every text goes in as text; nothing is decided here.
import { plot } from "./plot.js";

const token = document.querySelector("meta[name=token]").content;
const SILENT_S = 15, LATE_S = 15, ENTRIES = 8, RUNS = 12;
const parts = new Map(), cards = new Map(), runs = new Map();
let chosen = "", heard = Date.now();
const find = (selector) => document.querySelector(selector);

function make(tag, name = "", text = "") {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text) element.textContent = text;
  return element;
}

function say(element, text, name) {
  if (element.textContent !== text) element.textContent = text;
  if (name !== undefined && element.className !== name) element.className = name;
}

function numbered(stem) {
  const found = [];
  for (const [key, value] of parts) if (key.startsWith(stem + ":")) found.push([Number(key.slice(stem.length + 1)), value]);
  return found.sort((a, b) => a[0] - b[0]);
}

// Cards.

function newCard(id) {
  const card = make("article", "card"), top = make("div", "top"), label = make("label"), radio = make("input");
  radio.type = "radio"; radio.name = "device"; radio.value = id;
  radio.addEventListener("change", () => choose(id));
  label.append(radio, " " + id);
  const found = { card, radio, plot: plot() };
  top.append(label, found.proof = make("span", "proof"));
  const left = ["big", "health", "update"].map((name) => found[name] = make("p", name));
  found.bar = make("progress"); found.bar.setAttribute("aria-label", "progress of the update");
  found.facts = make("p", "quiet"); found.doubt = make("p", "bad"); found.sensor = make("p", "sensor");
  found.chain = make("p", "quiet"); found.journal = make("ol", "journal");
  const log = make("div", "right"), rest = make("div", "left");
  rest.append(...left, found.bar, found.sensor, found.plot.element, found.facts, found.doubt);
  log.append(found.chain, found.journal);
  card.append(top, rest, log);
  card.setAttribute("aria-label", id);
  find("#devices").append(card);
  cards.set(id, found);
  if (!chosen) choose(id);
  return found;
}

function choose(id) {
  chosen = id;
  for (const [name, found] of cards) { found.radio.checked = name === id; found.card.classList.toggle("chosen", name === id); }
  drawPanel();
}

function isLive() { return (parts.get("meta") || {}).mode === "live"; }

function age(seen) {
  const seconds = Math.max(0, Date.now() / 1000 - seen);
  return seconds < 2 ? "now" : seconds < 100 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;
}

function drawProof(id) {
  const device = parts.get("device:" + id), found = cards.get(id);
  if (!device || !found) return;
  const late = isLive() && device.seen && Date.now() / 1000 - device.seen > LATE_S;
  const when = device.seen && isLive() ? ", " + age(device.seen) : "";
  if (!device.verified) say(found.proof, "not verified yet: " + (device.proof || "no report"), "proof");
  else if (late) say(found.proof, "silent: last verified" + when, "proof bad");
  else say(found.proof, (device.fresh ? "✓ verified, fresh" : "✓ verified") + when, "proof good");
  say(found.doubt, device.refusal ? `last message in its name refused [${device.refusal[0]}]: ${device.refusal[1]}` : "");
}

function drawCard(id) {
  const device = parts.get("device:" + id), found = cards.get(id) || newCard(id);
  drawProof(id);
  say(found.big, device.version ? device.version : "–");
  const place = device.verified ? ` in slot ${device.slot}, ${device.mode}` : "";
  if (place) found.big.append(make("small", "", place));
  const healthy = device.verified && !device.degraded.length;
  const whole = device.comparison === "success" ? ", all files as signed" : "";
  say(found.health, !device.verified ? "" : healthy ? "healthy" + whole : "degraded: " + device.degraded.join(", "),
    healthy ? "health good" : "health bad");
  const update = device.update || {}, files = update.files;
  const moves = files && (update.state === "downloading" || update.state === "installing");
  say(found.update, device.verified ? `update: ${update.state}${update.reason ? ` (${update.reason})` : ""}${moves ? `, file ${files.done} of ${files.total}` : ""}` : "");
  found.bar.hidden = !moves;
  if (moves) { found.bar.max = files.total; found.bar.value = files.done; }
  const locks = Object.entries(device.lockouts || {}).map(([name, one]) => `${name} locked at level ${one.level}`);
  const refused = device.refused ? [`refused last: ${device.refused.reason}, ${device.refused.count} time${device.refused.count > 1 ? "s" : ""}`] : [];
  say(found.facts, device.verified ? [`boot ${device.boots} (${device.reset})`, `report ${device.counter.join(".")}`, ...refused, ...locks,
    `broker, unsigned: ${device.link || "nothing"}`].join(" · ") : "");
  drawSensor(id);
}

function drawSensor(id) {
  const found = cards.get(id), device = parts.get("device:" + id);
  if (!found || !device) return;
  const sensor = device.sensor;
  say(found.sensor, sensor && sensor.value !== null ? `${sensor.name}: ${sensor.value} ${sensor.unit}` : "");
  found.plot.draw(numbered("sensor:" + id).map((one) => one[1]));
}

function drawJournal(id) {
  const found = cards.get(id);
  if (!found) return;
  const chain = parts.get("chain:" + id);
  if (!chain) say(found.chain, "journal: nothing yet", "quiet");
  else if (chain.faults.length) say(found.chain, "journal: " + chain.faults.join("; "), "bad");
  else say(found.chain, `✓ journal: ${chain.entries} ${chain.entries === 1 ? "entry" : "entries"}, the chain holds`, "good");
  const entries = numbered("journal:" + id).slice(-ENTRIES).reverse();
  const texts = entries.map(([number, entry]) => `${number}  ${entry.event} ${entry.words.join(" ")}`);
  while (found.journal.children.length > texts.length) found.journal.lastChild.remove();
  texts.forEach((text, at) => say(found.journal.children[at] || found.journal.appendChild(make("li")), text));
}

// The panel.

function drawPanel() {
  const meta = parts.get("meta") || {}, phase = parts.get("phase") || {}, live = isLive();
  for (const button of meta.buttons || []) {
    let element = find(`[data-button="${button.name}"]`);
    if (!element) {
      element = make("button");
      element.type = "button"; element.dataset.button = button.name;
      element.append(make("b", "", button.title), make("span", "", button.hint));
      element.addEventListener("click", () => {
        if (element.getAttribute("aria-disabled") !== "true") send({ do: "act", button: button.name, device: chosen });
      });
      find("#" + button.kind).append(element);
    }
    const free = live && (phase.phase === "ready" || (phase.phase === "busy" && button.name === "power"));
    element.setAttribute("aria-disabled", String(!free));
  }
  const last = numbered("run").pop();
  for (const element of document.querySelectorAll("[data-button]"))
    element.classList.toggle("now", Boolean(last) && !last[1].verdict && last[1].button === element.dataset.button);
  say(find("#target"), live ? `Each button does it to ${chosen || "a device"}, really.` : "A recording: nothing can be pressed.");
  say(find("#phase"), phase.text && phase.phase !== "ready" ? phase.text : phase.phase === "ready" ? "Ready: choose a device, press a button." : "");
  const asked = numbered("ask").pop();
  say(find("#ask"), asked ? asked[1] : ""); find("#ask").hidden = !asked;
  find("#skip").hidden = !live || phase.phase !== "story";
  find("#again").hidden = live;
  find("#reset").hidden = find("#count-label").hidden = !live || !meta.resets;
  find("#reset").setAttribute("aria-disabled", String(phase.phase === "setting"));
}

function drawMeta() {
  const meta = parts.get("meta");
  if (!meta) return;
  const recorded = meta.mode === "recording";
  document.body.dataset.mode = meta.mode;
  say(find("#mode"), recorded ? `RECORDING of ${new Date(meta.made * 1000).toLocaleString()}: nothing here is live; pauses over ${meta.pause} s are shortened`
    : "LIVE, " + meta.label, recorded ? "recording" : "live");
  find("#simulated").replaceChildren(...meta.simulated.map((text) => make("li", "", text)));
  find("#count").replaceChildren(...Array.from({ length: meta.most }, (_, at) => new Option(at + 1, at + 1, false, at + 1 === meta.devices)));
  find("#devices").classList.toggle("wide", meta.devices <= 2);
}

async function send(order) {
  say(find("#answer"), "");
  try {
    const answer = await fetch("do", { method: "POST", body: JSON.stringify(order),
      headers: { "Content-Type": "application/json", "X-Gatehouse-Token": token } });
    if (!answer.ok) say(find("#answer"), (await answer.json()).why);
  } catch { say(find("#answer"), "The demonstration does not answer."); }
}

// Runs.

function hex(bytes) {
  const code = make("code"), [from, to] = bytes.mark, pairs = bytes.hex.match(/../g) || [];
  const text = (a, b) => pairs.slice(a, b).join(" ");
  if (to > from) code.append(text(0, from) + (from ? " " : ""), make("mark", "", text(from, to)), (to < pairs.length ? " " : "") + text(to));
  else code.append(text(0));
  return code;
}

function newStep(step) {
  const item = make("li");
  item.append(make("span", "who " + step.who, step.who), step.text);
  for (const bytes of step.bytes) {
    const figure = make("figure");
    figure.append(make("figcaption", "", bytes.label), hex(bytes));
    item.append(figure);
  }
  return item;
}

function drawRun(number) {
  const run = parts.get("run:" + number);
  if (!run) { if (runs.has(number)) { runs.get(number).run.remove(); runs.delete(number); } return; }
  let found = runs.get(number);
  if (!found) {
    found = { run: make("details"), steps: make("ol", "steps"), verdict: make("div", "verdict"), shown: 0 };
    found.run.dataset.run = number;
    found.run.append(make("summary", "", `${run.title} → ${run.device}`), make("p", "quiet", run.title === run.text ? "" : run.text), found.verdict, found.steps);
    found.verdict.setAttribute("role", "status");
    for (const other of runs.values()) other.run.open = false;
    found.run.open = true;
    find("#runs-title").after(found.run);
    runs.set(number, found);
    find("#nothing").hidden = true;
    for (const old of [...runs.keys()].sort((a, b) => a - b).slice(0, -RUNS)) { runs.get(old).run.remove(); runs.delete(old); }
  }
  const steps = numbered("step:" + number);
  for (const [, step] of steps.slice(found.shown)) found.steps.append(newStep(step));
  found.shown = steps.length;
  const verdict = run.verdict;
  found.verdict.dataset.good = verdict ? String(verdict.good) : "";
  found.verdict.dataset.counter = verdict && verdict.counter ? verdict.counter.join(".") : "";
  found.verdict.className = "verdict" + (verdict ? verdict.good ? " right" : " wrong" : "");
  if (!verdict) { say(found.verdict, "under way …"); return; }
  const by = verdict.counter ? `the device's verified report ${verdict.counter.join(".")}` : "no verified report";
  found.verdict.replaceChildren(make("strong", verdict.good ? "good" : "bad", verdict.good ? "As it should be" : "WRONG"),
    make("p", "told", verdict.told), make("p", "quiet", `Tried: ${verdict.tried}. Expected: ${verdict.expected}. By ${by}.`));
}

// The stream.

function clear() {
  parts.clear(); cards.clear(); runs.clear();
  chosen = "";
  find("#devices").replaceChildren();
  for (const run of document.querySelectorAll("#runs details")) run.remove();
  find("#nothing").hidden = false;
}

function take(messages) {
  const dirty = new Set();
  for (const message of messages) {
    if (message.clear) { clear(); dirty.clear(); continue; }
    if (message.v === null) parts.delete(message.k); else parts.set(message.k, message.v);
    const [kind, name] = message.k.split(":");
    dirty.add(kind === "step" ? "run:" + name : kind === "chain" ? "journal:" + name : name ? kind + ":" + name : kind);
  }
  const draw = { device: drawCard, sensor: drawSensor, journal: drawJournal, run: (name) => drawRun(Number(name)) };
  if (dirty.has("meta")) drawMeta();
  const rank = (key) => key.startsWith("device:") ? 0 : 1;
  for (const key of [...dirty].sort((a, b) => rank(a) - rank(b))) {
    const [kind, name] = key.split(":");
    if (draw[kind]) draw[kind](name);
  }
  drawPanel();
}

function trouble(text) { say(find("#trouble"), text); find("#trouble").hidden = !text; }

function listen() {
  const stream = new EventSource("events?token=" + encodeURIComponent(token));
  const alive = () => { heard = Date.now(); trouble(""); };
  stream.onmessage = (event) => { alive(); take(JSON.parse(event.data)); };
  stream.addEventListener("alive", alive);
  stream.onerror = () => trouble(stream.readyState === EventSource.CLOSED
    ? "This page is of an earlier run, or too many pages watch: load it again."
    : "No connection to the demonstration. Has it ended? Trying again.");
}

find("#reset").addEventListener("click", () => {
  if (find("#reset").getAttribute("aria-disabled") !== "true") send({ do: "reset", devices: Number(find("#count").value) });
});
find("#skip").addEventListener("click", () => send({ do: "skip" }));
find("#again").addEventListener("click", () => send({ do: "again" }));
find("#theme").addEventListener("click", () => {
  const root = document.documentElement, dark = getComputedStyle(root).colorScheme === "dark"
    || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  root.dataset.theme = dark ? "light" : "dark";
});
setInterval(() => {
  for (const id of cards.keys()) drawProof(id);
  if (Date.now() - heard > SILENT_S * 1000) trouble("No connection to the demonstration. Has it ended? Trying again.");
}, 1000);
listen();
