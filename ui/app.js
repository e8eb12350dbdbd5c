"use strict";

// What the server says of itself, every ten seconds while somebody looks.
const EVERY_MS = 10_000;
const PATIENCE_MS = 5_000;

const byId = (id) => document.getElementById(id);
const show = (id, text) => { byId(id).textContent = text; };

function state(name, text) {
  const element = byId("state");
  element.dataset.state = name;
  element.textContent = text;
}

function apart(ms) {
  const seconds = Math.abs(ms) / 1000;
  if (seconds < 2) return "no";
  const text = seconds < 120 ? `${seconds.toFixed(0)} s` : `${(seconds / 60).toFixed(0)} min`;
  return `${text} ${ms > 0 ? "ahead" : "behind"}`;
}

async function ask() {
  const begun = performance.now();
  try {
    const answer = await fetch("/v1/version", {
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (!answer.ok) throw new Error(`${answer.status}`);
    const { version, instance, now } = await answer.json();
    const took = performance.now() - begun;
    const clock = new Date(now);
    show("version", version);
    byId("instance").firstElementChild.textContent = instance;
    show("clock", clock.toLocaleString());
    show("skew", apart(clock.getTime() - (Date.now() - took / 2)));
    show("latency", `${took.toFixed(0)} ms`);
    state("serving", "serving");
  } catch (error) {
    state("away", `does not answer (${error.message})`);
  }
}

show("login", `muster login --server ${location.origin}`);
ask();
setInterval(() => { if (!document.hidden) ask(); }, EVERY_MS);
