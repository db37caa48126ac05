"use strict";
const byId = (id) => document.getElementById(id);
const { models } = JSON.parse(byId("begin").textContent);
const log = byId("log"), message = byId("message"), send = byId("send"), stop = byId("stop");
const NUMBERS = ["temperature", "top_p", "max_new_tokens", "seed"];
const histories = models.map(() => []);
let underWay = null;
let asked = 0;

function made(tag, className, text = "") {
  const found = document.createElement(tag);
  found.className = className;
  found.textContent = text;
  return found;
}

function settings() {
  const found = { system: byId("system").value.trim() };
  for (const name of NUMBERS) {
    const value = byId(name).value;
    found[name] = value === "" ? null : Number(value);
  }
  return found;
}

function saySettings() {
  const found = settings();
  const heat = found.temperature === 0 ? "greedy" : `temperature ${found.temperature}, top-p ${found.top_p}`;
  const seed = found.seed === null || found.temperature === 0 ? "" : `, seed ${found.seed}`;
  byId("said").textContent = `(${heat}, at most ${found.max_new_tokens} tokens${seed}${found.system ? ", with a system message" : ""})`;
}

const nearEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 80;
const toEnd = () => { log.scrollTop = log.scrollHeight; };

async function post(path, body, signal) {
  const answer = await fetch(path, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
  });
  if (answer.ok) return answer;
  const text = await answer.text();
  let said = text;
  try { said = JSON.parse(text).error.message; } catch { /* the text itself says it */ }
  throw new Error(said);
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("The answer broke off: the server is gone.");
    const pieces = (rest + value).split("\n\n");
    rest = pieces.pop();
    for (const piece of pieces) {
      const data = piece.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

function newAnswer(name, row) {
  const box = made("section", "answer");
  box.setAttribute("aria-busy", "true");
  box.setAttribute("aria-label", `Answer of ${name}`);
  const text = made("p", "text"), about = made("p", "about");
  box.append(made("h2", "", name), text, about);
  row.append(box);
  return { box, text, about };
}

function ended(shown, state) {
  const seconds = (performance.now() - state.begun) / 1000;
  const rate = seconds > 0 ? state.tokens / seconds : 0;
  const how = { length: "cut at its limit", stopped: "stopped", stop: "" }[state.finish] ?? "";
  const tokens = state.tokens === 1 ? "1 token" : `${state.tokens} tokens`;
  const facts = [how, tokens, `${seconds.toFixed(1)} s`, `${rate.toFixed(rate < 10 ? 1 : 0)} tokens/s`];
  shown.about.textContent = facts.filter(Boolean).join(" · ");
}

function failed(shown, why) {
  shown.text.hidden = !shown.text.textContent;
  shown.about.remove();
  shown.box.append(made("p", "note fault", why));
}

async function answer(at, question, wanted, row, signal) {
  const shown = newAnswer(models[at].name, row);
  const state = { begun: performance.now(), tokens: 0, finish: "stopped", text: "" };
  const history = histories[at];
  let dropped = 0;
  try {
    const turns = [...history, question];
    const body = { system: wanted.system, turns, max_new_tokens: wanted.max_new_tokens };
    const fit = await (await post(`fit/${at}`, body, signal)).json();
    dropped = fit.dropped;
    if (fit.note) shown.box.insertBefore(made("p", "note", `${fit.note}.`), shown.text);
    const ask = { ...fit.ask, temperature: wanted.temperature, top_p: wanted.top_p };
    if (wanted.seed !== null) ask.seed = wanted.seed;
    await stream(await post(`models/${at}/v1/chat/completions`, ask, signal), state, shown);
    ended(shown, state);
  } catch (error) {
    if (error.name === "AbortError") ended(shown, state);
    else failed(shown, error.message);
  } finally {
    shown.box.setAttribute("aria-busy", "false");
  }
  const said = state.text.trim();
  if (said && !signal.forgotten) {
    history.splice(0, dropped);
    history.push(question, { role: "assistant", content: said });
  }
}

async function stream(coming, state, shown) {
  for await (const event of events(coming)) {
    if (event.usage) state.tokens = event.usage.completion_tokens;
    const choice = event.choices[0];
    if (!choice) continue;
    const text = choice.delta.content ?? "";
    if (text) {
      const follow = nearEnd();
      state.text += text;
      if (!event.usage) state.tokens += 1;
      shown.text.textContent = state.text.trimStart();
      if (follow) toEnd();
    }
    if (choice.finish_reason) state.finish = choice.finish_reason;
  }
}

function working(is) {
  send.hidden = is;
  stop.hidden = !is;
}

async function say(text) {
  byId("empty").hidden = true;
  const row = made("div", "turn");
  row.append(made("p", "yours", text));
  log.append(row);
  const wanted = settings();
  if (wanted.seed !== null) wanted.seed += asked;
  asked += 1;
  const control = new AbortController();
  underWay = control;
  working(true);
  byId("status").textContent = "Answering";
  const question = { role: "user", content: text };
  const all = models.map((_, at) => answer(at, question, wanted, row, control.signal));
  toEnd();
  await Promise.all(all);
  if (underWay !== control) return;
  underWay = null;
  working(false);
  const texts = [...row.querySelectorAll(".answer")].map((box) =>
    `${box.querySelector("h2").textContent}: ${box.querySelector(".text").textContent || box.lastChild.textContent}`);
  byId("status").textContent = texts.join(". ");
  message.focus();
}

function reset() {
  if (underWay) {
    underWay.signal.forgotten = true;
    underWay.abort();
    underWay = null;
    working(false);
  }
  for (const history of histories) history.length = 0;
  asked = 0;
  for (const row of log.querySelectorAll(".turn")) row.remove();
  byId("empty").hidden = false;
  byId("status").textContent = "A new chat";
  message.focus();
}

function grow() {
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight + 2}px`;
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = message.value;
  if (underWay || !text.trim()) return;
  const wrong = NUMBERS.map(byId).find((field) => !field.checkValidity() || (field.value === "" && field.id !== "seed"));
  if (wrong) {
    byId("settings").open = true;
    wrong.focus();
    wrong.reportValidity();
    return;
  }
  message.value = "";
  grow();
  say(text);
});
message.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});
message.addEventListener("input", grow);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && underWay) underWay.abort();
});
stop.addEventListener("click", () => underWay?.abort());
byId("reset").addEventListener("click", reset);
byId("settings").addEventListener("input", saySettings);
saySettings();
grow();
