// The console's pages: polls what runs, draws, starts commands. Text from outside is only ever set as text.
"use strict";

const TOKEN = document.querySelector("meta[name=console-token]").content;
const PAGE = document.body.dataset.page;
const POLL_MS = 3000, CHARTS_MS = 5000, MOST_LINES = 1500;
const $ = (id) => document.getElementById(id);

// --- small helpers -------------------------------------------------------------------------------------------------

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
const fill = (element, ...children) => { element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined)); };

class Refused extends Error {
  constructor(status, problem) { super(problem.detail || problem.title || `The console answered ${status}.`); this.status = status; this.type = problem.type || ""; }
}

async function ask(path, options) {
  let response;
  try { response = await fetch(path, options); } catch { throw new Refused(0, { title: "The console does not answer; make console starts it." }); }
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, body);
  return body;
}
const post = (path, body) => ask(path, { method: "POST", headers: { "Content-Type": "application/json", "X-Console-Token": TOKEN }, body: JSON.stringify(body || {}) });

let toastTimer = 0;
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 9000);
}
const guarded = (work) => async (...given) => { try { return await work(...given); } catch (error) { toast(error.message); return null; } };

const mebibytes = (bytes) => (bytes === null ? "" : `${Math.round(bytes / 1048576)}`);
function age(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}
const ago = (iso) => `${age(Math.max(0, (Date.now() - Date.parse(iso)) / 1000))} ago`;
const milliseconds = (value) => (value >= 1000 ? `${(value / 1000).toFixed(2)} s` : value >= 10 ? `${value.toFixed(0)} ms` : `${value.toFixed(2)} ms`);
const chip = (text, tone) => h("span", { class: `chip ${tone || text}` }, text);

// A list that is drawn again only when it has changed keeps focus, selection and what was opened.
const drawn = new Map();
function changed(key, value) {
  const text = JSON.stringify(value);
  if (drawn.get(key) === text) return false;
  drawn.set(key, text);
  return true;
}

// --- state: polled by every page -----------------------------------------------------------------------------------

let state = { projects: [], jobs: [] };
let stateAsked = false;

async function pollState() {
  if (stateAsked) return;
  stateAsked = true;
  try {
    state = await ask("/api/state");
    showSummary();
    showJobs();
    if (PAGE === "home") { showStack(); showChaosActive(); }
  } catch (error) {
    $("summary").textContent = error.message;
  } finally { stateAsked = false; }
}

function showSummary() {
  const rows = state.projects.flatMap((project) => project.rows);
  const running = rows.filter((row) => row.state === "running");
  const memory = rows.reduce((sum, row) => sum + (row.memory || 0), 0);
  const ill = rows.filter((row) => row.state === "paused" || row.state === "exited");
  $("summary").textContent = running.length
    ? `${running.length} running · ${(memory / 1073741824).toFixed(1)} GiB${ill.length ? ` · ${ill.length} paused or dead` : ""}`
    : "nothing runs";
}

// --- what runs -----------------------------------------------------------------------------------------------------

const opened = new Set();

function showStack() {
  const projects = state.projects.filter((project) => project.rows.length || project.problem);
  const busy = mainJob() !== null;
  document.querySelectorAll("#stack [data-start]").forEach((button) => { button.disabled = busy; });
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.service : null;
  if (!projects.length) {
    fill($("stack-list"), h("p", { class: "quiet" }, "Nothing runs. Start the stack to look at it, load it and break it by hand; a lab starts what it needs by itself."));
    return;
  }
  const scrolled = [...document.querySelectorAll(".stack-scroll")].map((one) => one.scrollTop);
  fill($("stack-list"), projects.map(stackTable));
  document.querySelectorAll(".stack-scroll").forEach((one, i) => { one.scrollTop = scrolled[i] || 0; });
  if (focused) { const again = document.querySelector(`button[data-service="${CSS.escape(focused)}"]`); if (again) again.focus({ preventScroll: true }); }
}

function stackTable(project) {
  if (project.problem) return h("p", { class: "problem" }, project.problem);
  const title = project.name === "dev" ? "Started by make up" : project.name === "lab" ? "Of the lab" : project.name;
  const head = ["service", "state", "MiB", "up", "restarts", "last log line"].map((text) => h("th", { scope: "col", class: ["MiB", "up", "restarts"].includes(text) ? "n" : null }, text));
  const body = h("tbody");
  for (const row of project.rows) {
    const key = `${project.name}/${row.service}`;
    const limit = row.memory_limit && row.memory !== null ? `${mebibytes(row.memory)} / ${mebibytes(row.memory_limit)}` : mebibytes(row.memory);
    const why = row.detail || (row.exit_code ? `exit code ${row.exit_code}` : "");
    body.append(h("tr", null,
      h("td", { class: "service" }, h("button", { type: "button", "data-service": key, "aria-expanded": String(opened.has(key)), title: "Show the last log lines", onclick: () => toggleLog(key) }, row.service)),
      h("td", { class: row.state }, row.state, why ? h("span", { class: "quiet" }, ` ${why}`) : null),
      h("td", { class: "n" }, limit), h("td", { class: "n" }, age(row.up_seconds)), h("td", { class: `n ${row.restarts ? "warn" : ""}` }, String(row.restarts)),
      h("td", null, h("div", { class: "tail", title: row.last_line }, row.last_line))));
    if (opened.has(key)) body.append(h("tr", { class: "log" }, h("td", { colspan: "6" }, logOf(key))));
  }
  return h("div", { class: "stack-scroll", tabindex: "0", role: "region", "aria-label": title }, h("table", { class: "stack" }, h("caption", null, `${title} · ${project.runtime}`), h("thead", null, h("tr", null, head)), body));
}

const logs = new Map();
function logOf(key) {
  if (!logs.has(key)) logs.set(key, h("pre", { class: "log", tabindex: "0", "aria-label": `Log of ${key}` }, "reading ..."));
  return logs.get(key);
}
async function toggleLog(key) {
  if (opened.has(key)) opened.delete(key); else opened.add(key);
  showStack();
  if (opened.has(key)) { await readLog(key); logOf(key).scrollTop = logOf(key).scrollHeight; }
}
async function readLog(key) {
  const pre = logOf(key);
  const atEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 8;
  try { pre.textContent = (await ask(`/api/logs/${key}?lines=80`)).lines.join("\n") || "it wrote nothing"; } catch (error) { pre.textContent = error.message; }
  if (atEnd) pre.scrollTop = pre.scrollHeight;
}

// --- labs ----------------------------------------------------------------------------------------------------------

let days = [];

async function loadLabs() {
  days = await ask("/api/labs");
  if (PAGE === "home" && changed("labs", [days, new Date().toISOString().slice(0, 16)])) showLabs();
}

function showLabs() {
  const weeks = [...new Set(days.map((day) => day.week))];
  fill($("labs-list"), weeks.map((week) => {
    const of = days.filter((day) => day.week === week);
    const page = of.map((day) => day.page).find(Boolean);
    return [
      h("div", { class: "week" }, h("h3", null, `Week ${week}`), page ? h("a", { href: page.split("#")[0] }, "the week's page") : null, h("span", { class: "grow" }),
        h("button", { type: "button", onclick: () => openDialog(`make lab week=${week}`) }, "Run the week")),
      of.map(dayRow)];
  }).flat(2));
}

function dayRow(day) {
  if (day.problem) return h("article", { class: "day" }, h("span", { class: "when" }, `Day ${day.day}`), h("p", { class: "problem" }, day.problem), h("span"));
  const last = day.last;
  return h("article", { class: "day", "data-lab": day.name },
    h("span", { class: "when" }, `Day ${day.day}`),
    h("div", null,
      h("h3", null, day.page ? h("a", { href: day.page }, day.title) : day.title),
      h("p", { class: "question" }, plainText(day.question)),
      last ? versus(last) : null,
      day.history.length > 1 ? historyOf(day) : null),
    h("div", { class: "side" },
      last ? chip(last.told, last.verdict) : chip("never run", "never"),
      last ? h("span", { class: "quiet nowrap" }, ago(last.started_at)) : null,
      h("div", { class: "actions" },
        last && last.report ? h("a", { href: last.report, class: "report" }, "Report") : null,
        h("button", { type: "button", class: "primary", "aria-label": `Run ${day.name}`, onclick: () => openDialog(day.command) }, "Run"))));
}

const plainText = (text) => text.replace(/`/g, "");

function versus(result) {
  return h("dl", { class: "versus" },
    h("dt", null, "predicted"), h("dd", { class: "prediction" }, (result.prediction && result.prediction !== "-" ? result.prediction : null) || h("span", { class: "quiet" }, "nothing was")),
    h("dt", null, "happened"), h("dd", { class: "happened" }, `${result.says} `, result.outcomes.map((one, i) => [i ? "; " : "", h("b", null, one.name), ` ${one.says}`]).flat()),
    result.verdict !== "pass" && result.reasons.length ? [h("dt", null, "because"), h("dd", null, result.reasons[0])] : null);
}

function historyOf(day) {
  const rows = day.history.map((one) => h("tr", null,
    h("td", null, ago(one.started_at)), h("td", { class: one.verdict }, one.verdict), h("td", { class: "n" }, `seed ${one.seed}${one.short ? ", short" : ""}`),
    h("td", null, one.report ? h("a", { href: one.report }, one.run) : one.run)));
  return h("details", null, h("summary", null, `${day.history.length} runs`), h("table", null, h("tbody", null, rows)));
}

// --- the dialog before a run ---------------------------------------------------------------------------------------

let asked = "";

function parameters(command) {
  const found = {};
  for (const match of command.matchAll(/(\w+)=("[^"]*"|\S+)/g)) found[match[1]] = match[2].replace(/^"|"$/g, "");
  return found;
}

function openDialog(command, example) {
  if (!/^make lab\b/.test(command)) { start(command); return; }
  asked = command;
  const given = parameters(command);
  const day = days.find((one) => String(one.week) === given.week && String(one.day) === given.day);
  $("run-title").textContent = day ? `${day.title}: week ${day.week}, day ${day.day}` : given.week === "all" ? "All days of all weeks" : `All days of week ${given.week}`;
  $("run-question").textContent = day ? plainText(day.question) : "Each day's report shows this prediction; run a day alone to predict it by itself.";
  $("run-prediction").value = "";
  $("run-prediction").placeholder = example ? `for example: ${example}` : "a number, who is hurt, what recovers; nothing is fine too";
  fill($("run-variant"), h("option", { value: "" }, "all"), (day ? day.variants : []).map(([name, role]) => h("option", { value: name }, name === role ? name : `${name} (${role})`)));
  $("run-variant").disabled = !day;
  $("run-variant").value = given.variant || "";
  $("run-seed").value = given.seed || "";
  $("run-short").checked = given.short === "1";
  $("run-keep").checked = given.keep === "1";
  $("run-problem").textContent = "";
  preview();
  $("run-dialog").showModal();
  $("run-prediction").focus();
}

function chosenCommand() {
  const own = { variant: $("run-variant").value, seed: $("run-seed").value.trim(), short: $("run-short").checked ? "1" : "", keep: $("run-keep").checked ? "1" : "" };
  const merged = { ...parameters(asked), ...own };
  return ["make lab", ...Object.entries(merged).filter(([, value]) => value).map(([name, value]) => `${name}=${value}`)].join(" ");
}
function preview() { $("run-preview").textContent = chosenCommand(); }

async function startFromDialog() {
  const button = $("run-start");
  button.disabled = true;
  try {
    follow(await post("/api/jobs", { command: chosenCommand(), prediction: $("run-prediction").value }));
    $("run-dialog").close();
    pollState();
  } catch (error) { $("run-problem").textContent = error.message; } finally { button.disabled = false; }
}

const start = guarded(async (command) => {
  const job = await post("/api/jobs", { command });
  if (job.target !== "chaos") follow(job); else watchChaos(job.id);
  pollState();
  return job;
});

// --- the dock: the one command that runs ---------------------------------------------------------------------------

let followed = null, source = null, dismissed = new Set(JSON.parse(sessionStorage.getItem("dismissed") || "[]"));
const mainJob = () => state.jobs.find((job) => job.running && job.target !== "chaos") || null;

function showJobs() {
  const running = mainJob();
  if (running) { if (!followed || followed.id !== running.id) follow(running); return; }
  const newest = state.jobs.find((job) => job.target !== "chaos");
  if (newest && !followed && !dismissed.has(`${newest.id} ${newest.started_at}`) && Date.now() - Date.parse(newest.ended_at) < 600000) follow(newest);
}

function follow(job) {
  if (source) source.close();
  followed = job;
  $("dock").hidden = false;
  $("dock-command").textContent = job.command;
  $("dock-log").textContent = "";
  $("dock-result").hidden = true;
  fill($("dock-progress"));
  fill($("dock-state"));
  setRunning(true);
  const output = $("dock-log");
  let lines = 0;
  source = new EventSource(`/api/jobs/${job.id}/events`);
  source.addEventListener("line", (event) => {
    const atEnd = output.scrollTop + output.clientHeight >= output.scrollHeight - 8;
    output.append(`${JSON.parse(event.data).text}\n`);
    if (++lines > MOST_LINES) { output.firstChild.remove(); }
    if (atEnd) output.scrollTop = output.scrollHeight;
  });
  source.addEventListener("progress", (event) => showProgress(JSON.parse(event.data)));
  source.addEventListener("end", (event) => { source.close(); source = null; ended(JSON.parse(event.data)); });
}

function setRunning(running) {
  $("dock-state").className = `chip ${running ? "running" : ""}`;
  if (running) $("dock-state").textContent = "running";
  $("dock-cancel").hidden = !running;
  $("dock-cancel").disabled = false;
  $("dock-cancel").textContent = "Cancel";
  $("dock-close").hidden = running;
}

function showProgress(tick) {
  const bar = h("i");
  bar.style.width = tick.seconds ? `${Math.min(100, 100 * tick.elapsed / tick.seconds)}%` : "0";
  fill($("dock-progress"),
    h("span", { class: "who" }, `${tick.who} · ${tick.phase}`),
    tick.seconds ? h("span", { class: "track", role: "progressbar", "aria-label": tick.phase, "aria-valuemin": "0", "aria-valuemax": String(Math.round(tick.seconds)), "aria-valuenow": String(Math.round(tick.elapsed)) }, bar) : null,
    h("span", null, tick.seconds ? `${Math.round(tick.elapsed)} of ${Math.round(tick.seconds)} s` : `${Math.round(tick.elapsed)} s`),
    tick.rate !== null ? h("span", null, `${tick.rate.toFixed(0)}/s`) : null,
    tick.errors !== null ? h("span", { class: tick.errors > 0.01 ? "bad" : "" }, `errors ${(tick.errors * 100).toFixed(1)} %`) : null,
    tick.p99_ms !== null ? h("span", null, `p99 ${tick.p99_ms.toFixed(0)} ms`) : null,
    tick.faults.length ? h("span", { class: "faults" }, tick.faults.join(", ")) : null,
    tick.note ? h("span", { class: "quiet" }, tick.note) : null);
}

async function ended(job) {
  followed = job;
  setRunning(false);
  const tones = { 0: ["done", "done"], 1: ["failed", "bad"], 2: ["refused", "bad"], 3: ["unknown", "unknown"], 130: ["cancelled", "unknown"] };
  const [text, tone] = job.cancelled ? tones[130] : tones[job.exit_code] || [`exit code ${job.exit_code}`, "bad"];
  $("dock-state").className = `chip ${tone}`;
  $("dock-state").textContent = job.target === "lab" && job.exit_code === 0 ? "pass" : text;
  fill($("dock-progress"));
  if (job.target === "lab") {
    await guarded(loadLabs)();
    showResult(job);
  }
  if ($("dock-result").hidden && job.exit_code !== 0) showOutput(true);
  pollState();
  if (PAGE === "home") { loadChaos(); chartsSoon(); loadTraces(); }
}

function showResult(job) {
  const results = days.map((day) => day.last).filter((last) => last && Date.parse(last.started_at) >= Date.parse(job.started_at) - 2000);
  if (!results.length) return;
  fill($("dock-result"), results.map((result) => h("section", { class: "outcome" },
    h("p", { class: "bar" }, h("b", null, result.lab), chip(result.told, result.verdict), result.report ? h("a", { href: result.report }, "Open the report") : null), versus(result))));
  $("dock-result").hidden = false;
}

function showOutput(shown) {
  $("dock-log").hidden = !shown;
  $("dock-log-toggle").setAttribute("aria-expanded", String(shown));
  if (shown) $("dock-log").scrollTop = $("dock-log").scrollHeight;
}

function closeDock() {
  $("dock").hidden = true;
  if (followed) { dismissed.add(`${followed.id} ${followed.started_at}`); sessionStorage.setItem("dismissed", JSON.stringify([...dismissed].slice(-20))); }
}

// --- charts --------------------------------------------------------------------------------------------------------

let board = null, chartTimer = 0, plotting = null, asking = false;
const colours = () => { const style = getComputedStyle(document.documentElement); return (name) => style.getPropertyValue(name).trim(); };

function plotly() {
  plotting = plotting || new Promise((resolve, reject) => {
    const script = h("script", { src: "/static/plotly.min.js" });
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => reject(new Error("The charting script could not be loaded.")));
    document.head.append(script);
  });
  return plotting;
}

const loadDashboards = guarded(async () => {
  const found = await ask("/api/dashboards");
  fill($("chart-dashboard"), found.map((one) => h("option", { value: one.uid }, one.title)));
  const wanted = sessionStorage.getItem("dashboard");
  if (found.some((one) => one.uid === wanted)) $("chart-dashboard").value = wanted;
  if (found.length) await openDashboard(); else $("chart-note").textContent = "There are no dashboards.";
});

async function openDashboard() {
  const uid = $("chart-dashboard").value;
  sessionStorage.setItem("dashboard", uid);
  board = await ask(`/api/dashboards/${uid}`);
  fill($("chart-grid"), board.panels.map(panelShell));
  chartsSoon();
}

function panelShell(panel) {
  const box = h("div", { class: `panel ${panel.type === "row" ? "row" : ""} ${panel.type === "stat" ? "is-stat" : ""}`, "data-panel": panel.id },
    panel.type === "row" ? panel.title : [h("h3", { title: panel.description || panel.title }, panel.title), h("div", { class: `body ${panel.type}`, role: panel.type === "timeseries" ? "img" : null, "aria-label": panel.type === "timeseries" ? `${panel.title}: ${panel.description}` : null })]);
  box.style.gridColumn = `${panel.place.x + 1} / span ${panel.place.w}`;
  box.style.gridRow = `${panel.place.y + 1} / span ${panel.place.h}`;
  return box;
}

function chartsSoon() { clearTimeout(chartTimer); drawCharts(); }

function chartProject() {
  const chosen = $("chart-project").value;
  if (chosen) return chosen;
  const alive = (name) => state.projects.some((one) => one.name === name && one.rows.some((row) => row.service === "prometheus" && row.state === "running"));
  return alive("lab") ? "lab" : "dev";
}

let chartsVisible = false;
async function drawCharts() {
  clearTimeout(chartTimer);
  chartTimer = setTimeout(drawCharts, $("chart-minutes").value === "60" ? 3 * CHARTS_MS : CHARTS_MS);
  if (!board || asking || document.hidden || !chartsVisible) return;
  asking = true;
  const shown = board;
  try {
    const data = await ask(`/api/dashboards/${shown.uid}/data?minutes=${$("chart-minutes").value}&project=${chartProject()}`);
    const Plotly = await plotly();
    if (shown !== board) return;
    $("chart-note").textContent = "";
    for (const panel of shown.panels) if (panel.type !== "row") drawPanel(Plotly, panel, data.panels.find((one) => one.id === panel.id), data);
    showMarks(data.marks);
    $("chart-grid").dataset.drawn = String(Number($("chart-grid").dataset.drawn || 0) + 1);
  } catch (error) {
    $("chart-note").textContent = error.type === "urn:lab:metrics_away" ? "Prometheus does not run: start the stack, or a lab." : error.message;
  } finally { asking = false; }
}

function showMarks(marks) {
  const faults = marks.filter((mark) => mark.kind === "fault");
  $("chart-marks").hidden = !faults.length;
  fill($("chart-marks"), h("b", null, "Shaded: "), [...new Set(faults.map((mark) => mark.text))].join(" · "));
}

const UNITS = {
  s: { digits: 3, after: " s" }, ms: { digits: 3, after: " ms" }, percentunit: { scale: 100, digits: 3, after: " %" }, percent: { digits: 3, after: " %" },
  bytes: { binary: true, after: "iB" }, decbytes: { si: true, after: "B" }, Bps: { si: true, after: "B/s" }, binBps: { binary: true, after: "iB/s" }, reqps: { si: true, after: "/s" }, ops: { si: true, after: "/s" }, cps: { si: true, after: "/s" }, short: { si: true, after: "" },
};
function told(value, unit) {
  if (value === null || value === undefined) return "–";
  const form = UNITS[unit] || UNITS.short;
  let number = value * (form.scale || 1), prefix = "";
  const base = form.binary ? 1024 : 1000;
  if (form.si || form.binary) for (const next of ["k", "M", "G", "T"]) { if (Math.abs(number) < base) break; number /= base; prefix = form.binary && next === "k" ? "K" : next; }
  if (unit === "s" && Math.abs(number) < 1 && number !== 0) return `${Number((number * 1000).toPrecision(3))} ms`;
  const after = form.binary && !prefix ? form.after.replace("i", "") : form.after;
  return `${Number(number.toPrecision(3))}${prefix || after.startsWith(" ") ? (after.startsWith(" ") ? "" : " ") : after ? " " : ""}${prefix}${after}`;
}

function drawPanel(Plotly, panel, data, all) {
  const body = document.querySelector(`[data-panel="${panel.id}"] .body`);
  if (!body) return;
  const empty = !data || data.problem || !data.series.length;
  if (empty) {
    if (body.querySelector(".js-plotly-plot")) Plotly.purge(body.firstElementChild);
    fill(body, h("div", { class: "none" }, data && data.problem ? data.problem : "no data"));
  } else if (panel.type === "stat") drawStat(body, panel, data);
  else if (panel.type === "table") drawTable(body, panel, data);
  else drawSeries(Plotly, body, panel, data, all);
}

function tone(panel, value) {
  const steps = (panel.defaults.thresholds || { steps: [] }).steps.filter((step) => step.value === null || value >= step.value);
  const colour = steps.length ? steps[steps.length - 1].color : "";
  return /red/.test(colour) ? "bad" : /orange|yellow/.test(colour) ? "warn" : /green/.test(colour) && (panel.defaults.thresholds.steps.length > 1) ? "ok" : "";
}
const last = (series) => { for (let i = series.points.length - 1; i >= 0; i--) if (series.points[i][1] !== null) return series.points[i][1]; return null; };

function drawStat(body, panel, data) {
  fill(body, h("div", { class: "stat" }, data.series.slice(0, 6).map((series) => {
    const value = last(series);
    return h("div", { class: value === null ? "" : tone(panel, value) }, told(value, panel.defaults.unit), data.series.length > 1 ? h("small", null, series.name) : null);
  })));
}

function drawTable(body, panel, data) {
  const names = [...new Set(data.series.flatMap((series) => Object.keys(series.labels)))].filter((name) => name !== "__name__").slice(0, 6);
  const rows = data.series.map((series) => h("tr", null, names.map((name) => h("td", null, series.labels[name] || "")), h("td", { class: "n" }, told(last(series), panel.defaults.unit))));
  fill(body, h("table", null, h("thead", null, h("tr", null, names.map((name) => h("th", { scope: "col" }, name)), h("th", { class: "n", scope: "col" }, "value"))), h("tbody", null, rows)));
}

function drawSeries(Plotly, body, panel, data, all) {
  const colour = colours();
  const palette = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => colour(`--who${i}`));
  const form = UNITS[panel.defaults.unit] || UNITS.short;
  const traces = data.series.map((series, i) => {
    const values = series.points.map((point) => (point[1] === null ? null : point[1] * (form.scale || 1)));
    return { type: "scatter", mode: "lines", name: series.name, line: { width: 1.8, color: palette[i % palette.length], dash: i < palette.length ? "solid" : "dot" }, x: series.points.map((point) => new Date(point[0] * 1000)), y: values, text: series.points.map((point) => told(point[1], panel.defaults.unit)), hovertemplate: "%{fullData.name}: %{text}<extra></extra>" };
  });
  const at = (seconds) => new Date(seconds * 1000);
  if (data.exemplars.length) traces.push({ type: "scatter", mode: "markers", name: "requests (click: trace)", showlegend: false, marker: { size: 5, symbol: "diamond", color: colour("--fault"), opacity: 0.8 },
    x: data.exemplars.map((one) => at(one.at)), y: data.exemplars.map((one) => one.value * (form.scale || 1)), customdata: data.exemplars.map((one) => one.trace), text: data.exemplars.map((one) => told(one.value, panel.defaults.unit)), hovertemplate: "%{text}, click for its trace<extra></extra>" });
  const shapes = all.marks.filter((mark) => mark.kind === "fault").map((mark) => ({ type: "rect", layer: "below", yref: "paper", x0: at(mark.start), x1: at(Math.max(mark.end, mark.start + all.window.step)), y0: 0, y1: 1, line: { width: 0 }, fillcolor: colour("--fault"), opacity: 0.14 }));
  for (const mark of all.marks) if (mark.kind === "phase") shapes.push({ type: "line", layer: "below", yref: "paper", x0: at(mark.start), x1: at(mark.start), y0: 0, y1: 1, line: { width: 1, dash: "dot", color: colour("--soft") } });
  const axis = { gridcolor: colour("--rule"), zeroline: false, linecolor: colour("--rule"), tickfont: { size: 10, color: colour("--soft") }, fixedrange: false };
  const layout = {
    margin: { l: 46, r: 6, t: 4, b: 20 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "system-ui, sans-serif", size: 11, color: colour("--ink") },
    showlegend: traces.length > 1 && traces.length <= 8, legend: { orientation: "h", y: -0.16, x: 0, font: { size: 10, color: colour("--soft") }, itemwidth: 30 }, hovermode: "x unified", hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--rule"), font: { color: colour("--ink"), size: 11 }, namelength: 60 },
    xaxis: { ...axis, range: [at(all.window.start), at(all.window.end)], type: "date", tickformat: "%H:%M", hoverformat: "%H:%M:%S", nticks: 6 },
    yaxis: { ...axis, rangemode: "tozero", nticks: 5, ticksuffix: form.si || form.binary ? "" : form.after, tickformat: (form.si || form.binary) && Math.max(...traces.flatMap((trace) => trace.y).filter((value) => value !== null), 0) >= 1000 ? "~s" : "~g", range: panel.defaults.min !== null && panel.defaults.max !== null ? [panel.defaults.min * (form.scale || 1), panel.defaults.max * (form.scale || 1)] : undefined },
    shapes, uirevision: `${panel.id}`,
  };
  let plot = body.querySelector(".plot");
  if (!plot) { plot = h("div", { class: "plot" }); plot.style.height = "100%"; fill(body, plot); }
  Plotly.react(plot, traces, layout, { displayModeBar: false, responsive: true });
  if (!plot.dataset.linked) {
    plot.dataset.linked = "1";
    plot.on("plotly_click", (event) => { const one = event.points.find((point) => point.customdata); if (one) location.href = `/traces/${one.customdata}?project=${chartProject()}`; });
  }
}

// --- breaking things -----------------------------------------------------------------------------------------------

const loadChaos = guarded(async () => {
  let scripts;
  try { scripts = await ask("/api/chaos"); } catch (error) { if (changed("chaos", error.message)) fill($("chaos-list"), h("p", { class: "quiet" }, error.message)); return; }
  const focused = $("chaos-list").contains(document.activeElement);
  if (!focused && changed("chaos", scripts)) fill($("chaos-list"), scripts.filter((script) => script.name !== "heal").map(scriptRow));
});

function scriptRow(script) {
  const target = h("select", { "aria-label": `Target of ${script.name}` }, script.targets.map((name) => h("option", { value: name }, name)));
  const seconds = h("input", { type: "number", min: "1", max: "3600", value: String(Math.max(1, script.seconds)), "aria-label": `Seconds of ${script.name}` });
  const amounts = script.options.map((option) => h("input", { value: String(option.default), size: "6", title: option.allowed, "data-option": option.name, "aria-label": `${option.name} of ${script.name}, ${option.unit}` }));
  const command = () => ["make chaos", `do=${script.name}`, `target=${target.value}`, `for=${seconds.value}s`, ...amounts.map((one) => `${one.dataset.option}=${one.value.trim()}`)].join(" ");
  const form = h("form", { onsubmit: (event) => { event.preventDefault(); start(command()); } }, target,
    amounts.map((one, i) => h("label", null, `${script.options[i].name} `, one)), h("label", null, "for ", seconds, " s"), h("button", { type: "submit", "aria-label": `Break by ${script.name}` }, "Break"));
  return h("div", { class: "script", "data-script": script.name }, h("span", { class: "name" }, script.name),
    h("span", null, script.does, h("span", { class: "quiet" }, ` ${script.teaches}`)), script.targets.length ? form : h("span", { class: "quiet nowrap" }, "nothing to do it to now"));
}

const CHAOS_SHOWN_MS = 120000;
function showChaosActive() {
  const jobs = state.jobs.filter((job) => job.target === "chaos" && (job.running || Date.now() - Date.parse(job.ended_at) < CHAOS_SHOWN_MS));
  fill($("chaos-active"), jobs.map((job) => {
    const healed = job.facts.find((fact) => fact.event === "healed");
    const lasting = parseInt(job.values.for || "0", 10), gone = (Date.now() - Date.parse(job.started_at)) / 1000;
    const text = job.running ? (healed ? "healing" : lasting ? `heals in ${Math.max(0, Math.ceil(lasting - gone))} s` : "at work") : job.exit_code === 3 ? "healed, without proof" : job.exit_code === 0 || healed ? "healed" : job.cancelled ? "cancelled" : "failed";
    return h("div", { class: `active ${job.running ? "" : "over"}`, "data-job": job.id },
      h("div", null, h("code", null, job.command), " ", chip(text, job.running ? "bad" : text === "failed" ? "bad" : "ok"),
        job.facts.slice(-4).map((fact) => h("p", { class: "receipt" }, `${fact.event}: ${factText(fact)}`)),
        !job.facts.length && !job.running && job.last ? h("p", { class: "receipt" }, job.last) : null),
      job.running ? h("button", { type: "button", onclick: guarded(async () => { await post(`/api/jobs/${job.id}/cancel`); pollState(); }) }, "Heal now") : null);
  }));
}
const factText = (fact) => fact.text || fact.summary || Object.entries(fact).filter(([name]) => !["event", "schema"].includes(name)).map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");

function watchChaos(id) {
  const events = new EventSource(`/api/jobs/${id}/events`);
  events.addEventListener("line", pollState);
  events.addEventListener("end", (event) => {
    events.close();
    const job = JSON.parse(event.data);
    const problem = job.facts.find((fact) => fact.event === "problem");
    if (job.exit_code !== 0 && !job.cancelled) toast(problem ? factText(problem) : job.last || `${job.command} failed.`);
    loadChaos();
    pollState();
  });
}

// --- alerts --------------------------------------------------------------------------------------------------------

const loadAlerts = guarded(async () => {
  const found = await ask(`/api/alerts?project=${chartProject()}`);
  if (!changed("alerts", found)) return;
  const silent = !found.reachable ? h("p", { class: "quiet" }, "Alertmanager does not run; make up starts it.") : !found.active.length ? h("p", { class: "quiet" }, "Nothing fires.") : null;
  fill($("alerts-list"), silent, found.active.map(alertRow),
    found.received.length ? h("details", null, h("summary", null, `${found.received.length} received here`), found.received.slice(0, 50).map(alertRow)) : null);
});
const alertRow = (alert) => h("div", { class: "alert" },
  h("p", null, chip(alert.severity || alert.status, alert.status === "resolved" ? "ok" : alert.severity || "firing"), " ", h("b", null, alert.name), alert.status === "resolved" ? " resolved" : "", " ", h("span", { class: "quiet" }, alert.started_at ? ago(alert.started_at) : ""), " ", alert.runbook ? h("a", { href: alert.runbook }, "runbook") : null),
  alert.summary ? h("p", null, alert.summary) : null, alert.description ? h("p", { class: "quiet" }, alert.description) : null);

// --- traces --------------------------------------------------------------------------------------------------------

const loadTraces = guarded(async () => {
  const project = chartProject();
  let services;
  try { services = await ask(`/api/traces/services?project=${project}`); } catch (error) { fill($("traces-list"), h("p", { class: "quiet" }, error.message)); return; }
  if (changed("trace-services", services)) {
    const before = $("trace-service").value || sessionStorage.getItem("trace-service");
    fill($("trace-service"), services.map((name) => h("option", { value: name }, name)));
    const first = ["checkout-api", "payments-api"].find((name) => services.includes(name));
    $("trace-service").value = services.includes(before) ? before : first || services[0] || "";
  }
  if (!services.length) { fill($("traces-list"), h("p", { class: "quiet" }, "No span has arrived yet.")); return; }
  const found = await ask(`/api/traces?project=${project}&service=${encodeURIComponent($("trace-service").value)}`);
  const rows = found.slice(0, 20).map((one) => h("tr", null,
    h("td", null, h("a", { href: `/traces/${one.id}?project=${project}` }, one.name)), h("td", { class: "quiet" }, one.services.join(" → ")),
    h("td", { class: "n" }, String(one.spans)), h("td", { class: `n ${one.failed ? "bad" : ""}` }, milliseconds(one.duration)), h("td", { class: "n" }, ago(one.started_at))));
  fill($("traces-list"), rows.length ? h("div", { class: "wide" }, h("table", null, h("thead", null, h("tr", null, ["trace", "through", "spans", "took", "began"].map((text, i) => h("th", { scope: "col", class: i > 1 ? "n" : null }, text)))), h("tbody", null, rows))) : h("p", { class: "quiet" }, "None in the last hour."));
});

function drawTrace(place, trace) {
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => h("span", null, milliseconds(share * trace.duration)));
  fill(place, h("div", { class: "axis" }, h("span", null, "span"), h("span", { class: "ticks" }, ticks), h("span")), trace.spans.map((span) => spanRow(trace, span)).flat());
}
const traceFacts = (trace) => `${trace.spans.length} spans in ${trace.services.length} services, ${milliseconds(trace.duration)}, began ${trace.started_at}`;

async function showTrace() {
  const section = document.querySelector("[data-trace]");
  let trace;
  try { trace = await ask(`/api/traces/${section.dataset.trace}?project=${section.dataset.project}`); } catch (error) { $("trace-facts").textContent = error.message; return; }
  $("trace-h").replaceChildren(`${trace.name} `, h("code", null, trace.id));
  $("trace-facts").textContent = traceFacts(trace);
  drawTrace($("waterfall"), trace);
}

async function showTraceLogs() {
  const section = document.querySelector("[data-trace]");
  let lines;
  try { lines = await ask(`/api/traces/${section.dataset.trace}/logs?project=${section.dataset.project}`); } catch (error) { fill($("trace-logs"), h("p", { class: "quiet" }, error.message)); return; }
  fill($("trace-logs"), lines.length ? h("pre", { class: "log", tabindex: "0" }, lines.map((one) => `${one.service}  ${one.line}`).join("\n")) : h("p", { class: "quiet" }, "None among the newest lines of each service."));
}

function spanRow(trace, span) {
  const colour = `c${trace.services.indexOf(span.service) % 8}`;
  const bar = h("i", { class: colour }), whole = trace.duration || 1;
  bar.style.left = `${100 * span.offset / whole}%`;
  bar.style.width = `${100 * span.duration / whole}%`;
  const facts = h("div", { class: "span-facts", hidden: true },
    h("table", null, h("tbody", null, [["span", span.id], ["kind", span.kind], ...(span.message ? [["status", span.message]] : []), ...Object.entries(span.attributes), ...span.events.map((text) => ["event", text])].map(([name, value]) => h("tr", null, h("th", { scope: "row" }, name), h("td", null, value))),
      span.links.map((id) => h("tr", null, h("th", { scope: "row" }, "link"), h("td", null, h("a", { href: `/traces/${id}` }, id)))))));
  const button = h("button", { type: "button", "aria-expanded": "false", onclick: () => { facts.hidden = !facts.hidden; button.setAttribute("aria-expanded", String(!facts.hidden)); } },
    h("b", { class: colour }, span.service), " ", h("span", { class: "name" }, span.name));
  button.style.paddingLeft = `${Math.min(span.depth, 12) * 0.9}rem`;
  return [h("div", { class: `span ${span.failed ? "failed" : ""}` }, button, h("div", { class: "lane" }, bar), h("span", { class: "took" }, milliseconds(span.duration))), facts];
}

// --- the story through all systems ---------------------------------------------------------------------------------

const SILENT_SECONDS = 75;
const showStory = guarded(async () => {
  const { story, silent_seconds: silent } = await ask("/api/story");
  const busy = mainJob() !== null;
  document.querySelectorAll("#story [data-start]").forEach((button) => { button.disabled = busy; });
  if (!story) return;
  const lost = story.state === "running" && silent > SILENT_SECONDS;
  $("story-facts").textContent = `Story ${story.id}, ${ago(story.started_at)}: ${lost ? `nothing was heard of it for ${age(silent)}` : story.state}${story.payment ? `, ${story.payment}` : ""}${story.sku ? `, ${story.quantity} of ${story.sku}` : ""}`;
  $("story-problem").textContent = story.problem;
  if (changed("story", story.stations)) fill($("story-stations"), story.stations.map((one) => h("tr", { class: one.state },
    h("th", { scope: "row" }, one.title), h("td", { class: "n" }, one.seconds === null ? (one.state === "now" ? "now" : "") : `${one.seconds.toFixed(2)} s`), h("td", null, one.says), h("td", { class: "quiet" }, one.where))));
  await showStoryTrace("story-trace", story.stations.some((one) => one.name === "checkout" && one.state === "done") ? story.trace_id : "");
  await showStoryTrace("story-job", story.job_trace_id);
});

async function showStoryTrace(name, id) {
  const place = $(name === "story-trace" ? "story-waterfall" : "story-job-waterfall");
  if (!id) { $(`${name}-facts`).textContent = ""; fill(place); drawn.delete(name); return; }
  let trace;
  try { trace = await ask(`/api/traces/${id}?project=dev`); } catch (error) { $(`${name}-facts`).textContent = error.message; return; }
  if (!changed(name, [trace.id, trace.spans.length])) return;
  fill($(`${name}-facts`), h("a", { href: `/traces/${id}` }, traceFacts(trace)));
  drawTrace(place, trace);
}

// --- begin ---------------------------------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-start], .run");
  if (!button) return;
  if (button.dataset.start) start(button.dataset.start); else openDialog(button.dataset.command, button.dataset.example);
});
$("dock-log-toggle").addEventListener("click", () => showOutput($("dock-log").hidden));
$("dock-cancel").addEventListener("click", guarded(async () => {
  $("dock-cancel").disabled = true;
  $("dock-cancel").textContent = "Healing ...";
  await post(`/api/jobs/${followed.id}/cancel`);
}));
$("dock-close").addEventListener("click", closeDock);
$("run-start").addEventListener("click", startFromDialog);
$("run-back").addEventListener("click", () => $("run-dialog").close());
$("run-form").addEventListener("input", preview);
$("run-form").addEventListener("submit", (event) => { event.preventDefault(); startFromDialog(); });
$("toast").addEventListener("click", () => { $("toast").hidden = true; });

pollState();
setInterval(() => { if (!document.hidden) pollState(); }, POLL_MS);
guarded(loadLabs)();
if (PAGE === "home") {
  loadDashboards();
  loadChaos();
  pollState().then(() => { loadAlerts(); loadTraces(); });
  new IntersectionObserver((entries) => { chartsVisible = entries[0].isIntersecting; if (chartsVisible) drawCharts(); }).observe($("charts"));
  $("chart-dashboard").addEventListener("change", guarded(openDashboard));
  for (const id of ["chart-minutes", "chart-project"]) $(id).addEventListener("change", chartsSoon);
  $("trace-service").addEventListener("change", () => { sessionStorage.setItem("trace-service", $("trace-service").value); loadTraces(); });
  $("trace-refresh").addEventListener("click", loadTraces);
  setInterval(() => { if (!document.hidden) { loadAlerts(); for (const key of opened) readLog(key); } }, 4000);
  setInterval(() => { if (!document.hidden) { loadChaos(); guarded(loadLabs)(); } }, 15000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) { pollState(); chartsSoon(); } });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", chartsSoon);
}
if (PAGE === "trace") { showTrace(); showTraceLogs(); }
if (PAGE === "story") {
  pollState().then(showStory);
  setInterval(() => { if (!document.hidden) showStory(); }, 1500);
}
