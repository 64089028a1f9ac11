// Asks the server and shows the answer as it comes: new, again, or after an edit.
import { answer } from "./api.js";
import { openDie } from "./die.js";
import { $ } from "./dom.js";
import { Painter, show } from "./markdown.js";
import { play } from "./pace.js";
import { key, slowdown, wishes } from "./settings.js";
import { drawTurn, finish } from "./turns.js";

let working = null; // AbortController of the answer or playback in hand

export const isBusy = () => working !== null;
export const stop = () => working?.abort();

export class Asking {
  constructor(store, redraw) {
    this.store = store;
    this.redraw = redraw; // draws the whole conversation and the list of conversations
    this.acts = {
      edit: (turn, text) => this.edit(turn, text),
      regenerate: (turn) => this.regenerate(turn),
      replay: (li, turn) => this.replay(li, turn),
      die: (turn) => openDie(turn, key),
    };
  }

  // `file` is { name, content } or null.
  async ask(question, file) {
    const before = file ? `${file.name}:\n${file.content}\n\n` : "";
    this.store.add({
      role: "user",
      text: before + question,
      asked: question,
      shown: file ? `[${file.name}]\n${question}` : undefined,
      file: file ?? undefined,
    });
    await this.answer();
  }

  async edit(turn, question) {
    if (working) return;
    this.store.branchAt(turn);
    await this.ask(question, turn.file ?? null);
  }

  // The old answer, and what followed, come back if no word of a new one arrives.
  async regenerate(turn) {
    if (working) return;
    const old = this.store.cutAt(turn);
    const chat = this.store.current;
    const fresh = await this.answer();
    if (fresh.text || !turn.text || !fresh.error) return;
    chat.turns.splice(chat.turns.indexOf(fresh), 1, ...old);
    this.store.save();
    this.redraw();
    $("status").textContent = `The old answer stays: ${fresh.error}`;
  }

  async answer() {
    const turn = { role: "assistant", text: "", pieces: [], tokens: [] };
    const body = { messages: messages(this.store.current.turns), ...wishes() };
    this.store.add(turn);
    this.redraw();
    toEnd();
    const li = $("turns").lastElementChild;
    const said = li.querySelector(".said");
    li.querySelector(".acts")?.remove(); // until it is done
    li.setAttribute("aria-busy", "true");
    const painter = new Painter(said);
    const add = (text) => following(() => painter.add(text));
    const now = $("pace").value === "host";
    await busy("Waiting for the chip", async (signal) => {
      try {
        for await (const event of answer(body, key(), signal)) {
          take(event, turn, now ? add : () => {});
          const tokens = event.chip?.tokens;
          if (tokens) $("status").textContent = `${now ? "Answering" : "Emulating"}, ${tokens} tokens`;
        }
        if (!now) await play(turn.pieces, slowdown(), add, signal);
      } catch (error) {
        turn.error = signal.aborted ? "Stopped." : error.message;
      }
    });
    li.removeAttribute("aria-busy");
    clearTimeout(painter.timer);
    following(() => {
      show(said, turn.text);
      finish(li, turn, this.acts);
    });
    this.store.save();
    return turn;
  }

  replay(li, turn) {
    if (working) return;
    const said = li.querySelector(".said");
    busy("Replaying", async (signal) => {
      const painter = new Painter(said);
      said.textContent = "";
      await play(turn.pieces ?? [[turn.text, 0]], slowdown(), (text) => painter.add(text), signal);
      clearTimeout(painter.timer);
      show(said, turn.text);
    });
  }

  draw() {
    const turns = this.store.current.turns;
    $("turns").replaceChildren(...turns.map((turn) => drawTurn(turn, this.acts)));
    $("empty").hidden = turns.length > 0;
  }
}

const rounded = (logprob) => Number(logprob.toFixed(4));

// One event of a stream into the turn: text with its chip time, and each token's likeliest eight.
function take(event, turn, add) {
  if (event.usage) turn.usage = event.usage;
  if (event.parameters) turn.seed = event.parameters.seed;
  const choice = event.choices[0];
  for (const token of choice?.logprobs?.content ?? []) {
    turn.tokens.push({
      text: token.token,
      logprob: rounded(token.logprob),
      top: token.top_logprobs.map((one) => [one.token, rounded(one.logprob)]),
    });
  }
  const text = choice?.delta.content;
  if (!text) return;
  turn.text += text;
  turn.pieces.push([text, event.chip.seconds]);
  add(text);
}

function messages(turns) {
  const said = turns.filter((turn) => turn.text).map(({ role, text }) => ({ role, content: text }));
  const system = $("system").value.trim();
  return system ? [{ role: "system", content: system }, ...said] : said;
}

async function busy(what, work) {
  working = new AbortController();
  $("send").hidden = true;
  $("stop").hidden = false;
  $("status").textContent = what;
  try {
    await work(working.signal);
  } finally {
    working = null;
    $("send").hidden = false;
    $("stop").hidden = true;
    $("status").textContent = "";
  }
}

const toEnd = () => scrollTo(0, document.documentElement.scrollHeight);

// Who reads at the end stays there while the page grows.
function following(change) {
  const atEnd = innerHeight + scrollY > document.documentElement.scrollHeight - 120;
  change();
  if (atEnd) toEnd();
}
