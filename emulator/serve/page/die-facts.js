// What one token was chosen from, and what it cost: beside the floor plan.
import { $, make } from "./dom.js";
import { count, time } from "./pace.js";

const SHOWN = 160; // characters of the answer before the token

export function showToken(turn, number, report) {
  const tokens = turn.tokens ?? [];
  const token = tokens[number - 1];
  const before = tokens.slice(0, number - 1).map((one) => one.text).join("");
  $("die-text").textContent = before.length > SHOWN ? `… ${before.slice(-SHOWN)}` : before;
  make($("die-text"), "mark", token ? seen(token.text) : "the end");
  const facts = $("die-facts");
  facts.replaceChildren();
  const list = make(facts, "dl", "", { className: "facts" });
  const fact = (name, value) => { make(list, "dt", name); make(list, "dd", value); };
  fact("Token", `${count(number)} of ${count(turn.usage.completion_tokens)}`);
  fact("Cycles", `${count(report.cycles)}, ${time(report.seconds)}`);
  fact("Energy", energy(report.energy));
  fact("Attends to", `${count(report.context)} positions`);
  if (token) facts.append(choice(token));
  else make(facts, "p", number > tokens.length && tokens.length
    ? "The token that ends the answer has no text."
    : "What this token was chosen from was not kept.", { className: "quiet" });
}

function energy({ low, mid, high }) {
  const [unit, scale] = mid < 1e-3 ? ["µJ", 1e6] : ["mJ", 1e3];
  return `${digits(mid * scale)} ${unit} (${digits(low * scale)} to ${digits(high * scale)})`;
}

const digits = (value) => Number(value.toPrecision(2)).toLocaleString("en");

// The chip's eight best tokens with their share at temperature 1; the one that was said is marked.
function choice(token) {
  const table = document.createElement("table");
  table.createCaption().textContent = "Chosen among the eight best, probability at temperature 1";
  const body = table.createTBody();
  // Two tokens may have the same text, such as parts of one character.
  const said = token.top.findIndex(([text, p]) => text === token.text && p === token.logprob);
  for (const [place, [text, logprob]] of token.top.entries()) {
    const row = body.insertRow();
    if (place === said) row.className = "chosen";
    const name = make(row, "th", seen(text));
    name.scope = "row";
    make(row, "td", `${(100 * Math.exp(logprob)).toFixed(1)} %`, { className: "number" });
    const cell = make(row, "td", "", { className: "bar" });
    make(cell, "div").style.width = `${100 * Math.exp(logprob)}%`;
  }
  return table;
}

// A token with its white space visible.
function seen(text) {
  return text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replace(/^ | $/g, "␣") || "(nothing)";
}
