"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const state = { on: new Set(Object.keys(page.signals)), ratio: page.selection ? page.selection.ratio : null };

// The rule of ktr.attribution.selection.TopRatio for one signal: the scores of a group's completions, and whether each
// of them ended by itself, to true where a token is selected.
function topRatio(scores, ended, settings, ratio) {
  if (ratio >= 1) return scores.map((row) => row.map(() => true));
  const rows = scores.map((row, g) =>
    row.map((score, t) => ({ g, t, score, free: settings.eos_selectable || !ended[g] || t < row.length - 1 })));
  const selected = scores.map((row) => row.map(() => false));
  for (const row of settings.scope === "group" ? [rows.flat()] : rows) {
    for (const token of settings.ties === "keep" ? atQuantile(row, ratio) : highest(row, ratio)) {
      selected[token.g][token.t] = true;
    }
  }
  return selected;
}

function highest(row, ratio) {
  const count = Math.ceil(row.length * ratio - 1e-9);
  // Sorting is stable: of equal scores the earlier token wins.
  return row.filter((token) => token.free && token.score > 0).sort((a, b) => b.score - a.score).slice(0, count);
}

// The quantile as torch computes it, in single precision: a score is compared with it to the last bit.
function atQuantile(row, ratio) {
  const single = Math.fround;
  const free = row.filter((token) => token.free);
  const sorted = free.map((token) => single(token.score)).sort((a, b) => a - b);
  const rank = single(single(1 - ratio) * (sorted.length - 1));
  const low = sorted[Math.floor(rank)], high = sorted[Math.ceil(rank)], weight = single(rank - Math.floor(rank));
  const [from, by] = weight < 0.5 ? [low, weight] : [high, single(weight - 1)];
  const threshold = single(from + by * single(high - low));
  return free.filter((token) => token.score > 0 && single(token.score) >= threshold);
}

// For each completion of a column, by signal, which tokens are selected; as recorded where no rule is known.
function selections(column) {
  const kept = column.completions.map(() => ({}));
  const ended = column.completions.map((completion) => completion.ended);
  for (const signal of Object.keys(page.signals)) {
    const scores = column.completions.map((of) => of.scores[signal] || of.tokens.map(() => 0));
    const chosen = page.selection
      ? topRatio(scores, ended, page.selection, state.ratio)
      : column.completions.map((of) => of.tokens.map((_, t) => (of.selected[signal] || []).includes(t)));
    column.completions.forEach((of, g) => { if (signal in of.scores) kept[g][signal] = chosen[g]; });
  }
  return kept;
}

const lists = [...document.querySelectorAll(".tokens")].map((element) => {
  const { case: c, column, completion } = element.dataset;
  const of = page.cases[c].columns[column];
  return {
    element, case: page.cases[c], column: of, index: Number(completion), data: of.completions[completion],
    tokens: [...element.querySelectorAll(".token")], counts: element.parentElement.querySelector(".counts"), kept: {},
  };
});

function rgba(color, opacity) {
  const part = (at) => parseInt(color.slice(at, at + 2), 16);
  return `rgba(${part(1)},${part(3)},${part(5)},${opacity.toFixed(3)})`;
}

function draw() {
  const selected = new Map();
  for (const list of lists) {
    if (!selected.has(list.column)) selected.set(list.column, selections(list.column));
    list.kept = selected.get(list.column)[list.index];
    const signals = Object.keys(page.signals).filter((signal) => signal in list.kept && state.on.has(signal));
    const top = Object.fromEntries(signals.map((signal) => [signal, Math.max(...list.data.scores[signal], 1e-12)]));
    let union = 0;
    list.tokens.forEach((token, t) => {
      const by = signals.filter((signal) => list.kept[signal][t]);
      const tints = by.map((signal) =>
        rgba(page.signals[signal], 0.14 + 0.44 * Math.max(0, list.data.scores[signal][t]) / top[signal]));
      const bands = tints.map((tint, i) => `${tint} ${100 * i / by.length}% ${100 * (i + 1) / by.length}%`);
      token.style.backgroundImage = bands.length ? `linear-gradient(90deg,${bands.join(",")})` : "";
      token.classList.toggle("kept", by.length > 0 || !Object.keys(list.kept).length);
      token.setAttribute("aria-selected", String(by.length > 0));
      const named = by.length ? `selected by ${by.join(", ")}` : "left out";
      token.setAttribute("aria-label", `${list.data.tokens[t]}, token ${t + 1} of ${list.tokens.length}, ${named}`);
      union += by.length > 0;
    });
    const n = list.tokens.length;
    const each = signals.map((signal) => `${signal} ${list.kept[signal].filter(Boolean).length}`);
    list.counts.textContent = Object.keys(list.kept).length
      ? `${union} of ${n} tokens (${Math.round(100 * union / n)} %)${each.length ? `: ${each.join(", ")}` : ""}` : "";
  }
  const output = document.querySelector(".ratio output");
  if (output) output.textContent = `${+(100 * state.ratio).toFixed(1)} %`;
  if (shown) show(...shown);
}

// --- the numbers of one token ---

const detail = document.getElementById("detail");
let shown = null;

function number(value) {
  if (value === null || value === undefined) return "–";
  const text = Math.abs(value) >= 0.001 || value === 0 ? value.toFixed(3) : value.toExponential(1);
  return text.replace("-", "−");
}

// What is known of a token, by its label.
function numbers(list, t) {
  const of = list.data, rows = new Map();
  const add = (label, values, text) => { if (values) rows.set(label, text(values[t])); };
  const logp = (value) => value === null ? "–" : `${number(value)} (p ${Math.exp(value).toPrecision(2)})`;
  add("log-prob", of.logps, logp);
  for (const [view, values] of Object.entries(of.view_logps || {})) add(`log-prob, ${view}`, values, logp);
  add("entropy", of.entropies, number);
  add("rank among words", of.ranks, String);
  add("gradient norm", of.gradient_norms, number);
  for (const [signal, scores] of Object.entries(of.scores)) {
    const place = 1 + scores.filter((score) => score > scores[t]).length;
    rows.set(`${signal} score`, `${number(scores[t])}, ${place} of ${scores.length}${list.kept[signal][t] ? " ✓" : ""}`);
  }
  add("ground truth", of.roles, (role) => role.replace("_", " or "));
  return rows;
}

// One column of numbers, or one for each of the policies that are compared.
function table(columns, t) {
  const of = columns.map((list) => numbers(list, t));
  const rows = [...new Set(of.flatMap((values) => [...values.keys()]))]
    .map((label) => [label, ...of.map((values) => values.get(label) || "–")]);
  if (columns.length > 1) rows.unshift(["", ...columns.map((list) => list.column.title)]);
  const dl = document.createElement("dl");
  dl.className = columns.length > 1 ? "both" : "";
  for (const [label, ...values] of rows) {
    const row = dl.appendChild(document.createElement("div"));
    row.appendChild(document.createElement("dt")).textContent = label;
    for (const value of values) row.appendChild(document.createElement("dd")).textContent = value;
  }
  return dl;
}

function show(list, t) {
  document.querySelectorAll(".token.shown").forEach((token) => token.classList.remove("shown"));
  shown = [list, t];
  const beside = list.case.paired
    ? lists.filter((other) => other.case === list.case && other.index === list.index) : [list];
  beside.forEach((other) => other.tokens[t].classList.add("shown"));
  const heading = document.createElement("h2");
  heading.textContent = `“${list.data.tokens[t].replace(/\n/g, "↵")}”, token ${t + 1} of ${list.tokens.length}`;
  detail.replaceChildren(heading, table(beside, t));
}

// --- keys, pointer, switches ---

// The token of the row above or below that is nearest across.
function vertical(list, t, step) {
  const from = list.tokens[t].getBoundingClientRect(), middle = from.left + from.width / 2;
  const rows = list.tokens.map((token) => token.getBoundingClientRect());
  const beyond = rows.map((row) => step * (row.top - from.top)).filter((way) => way > 4);
  if (!beyond.length) return t;
  const next = Math.min(...beyond);
  const across = (i) => Math.abs(rows[i].left + rows[i].width / 2 - middle);
  return rows.map((_, i) => i).filter((i) => Math.abs(step * (rows[i].top - from.top) - next) < 4)
    .reduce((best, i) => across(i) < across(best) ? i : best);
}

for (const list of lists) {
  const focus = (t) => {
    list.tokens.forEach((token, i) => { token.tabIndex = i === t ? 0 : -1; });
    list.tokens[t].focus();
  };
  list.tokens.forEach((token, t) => {
    token.addEventListener("mouseenter", () => show(list, t));
    token.addEventListener("focus", () => show(list, t));
    token.addEventListener("click", () => focus(t));
  });
  list.element.addEventListener("keydown", (event) => {
    const t = list.tokens.indexOf(event.target), last = list.tokens.length - 1;
    if (t < 0) return;
    const to = {
      ArrowRight: () => Math.min(t + 1, last), ArrowLeft: () => Math.max(t - 1, 0), Home: () => 0, End: () => last,
      ArrowDown: () => vertical(list, t, 1), ArrowUp: () => vertical(list, t, -1),
    }[event.key];
    if (!to) return;
    event.preventDefault();
    focus(to());
  });
}

for (const box of document.querySelectorAll("[data-signal]")) {
  box.addEventListener("change", () => {
    if (box.checked) state.on.add(box.dataset.signal); else state.on.delete(box.dataset.signal);
    draw();
  });
}
const slider = document.getElementById("ratio");
if (slider) slider.addEventListener("input", () => { state.ratio = Number(slider.value); draw(); });
draw();
