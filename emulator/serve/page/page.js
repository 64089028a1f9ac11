// The page: asks, shows the answer at the chosen pace, and what it cost on chip and host.
import { answer, getJson } from "./api.js";
import { cyclesOf } from "./bars.js";
import { count, play, speeds } from "./pace.js";
import { Store } from "./store.js";

const $ = (id) => document.getElementById(id);
const SETTINGS = ["system", "top-k", "temperature", "seed", "max-tokens", "pace", "times"];
const store = new Store();
let attachment = null; // { name, content }
let attachmentBytes = 51200;
let working = null; // AbortController of the answer or playback in hand

const key = () => $("api-key").value;

function item(turn) {
  const li = document.createElement("li");
  li.className = turn.role;
  const said = li.appendChild(document.createElement("p"));
  said.className = "said";
  said.textContent = turn.shown ?? turn.text;
  if (turn.role === "assistant") finish(li, turn);
  $("turns").append(li);
  return li;
}

// What stands under an answer: an error, the speeds, a replay, the cycles by block.
function finish(li, turn) {
  if (turn.error) {
    const error = li.appendChild(document.createElement("p"));
    Object.assign(error, { className: "error", textContent: turn.error });
    error.setAttribute("role", "alert");
  }
  if (!turn.usage) return;
  li.append(speeds(turn.usage));
  const again = li.appendChild(document.createElement("button"));
  Object.assign(again, { type: "button", className: "again", textContent: "Replay" });
  again.title = "Show it again at the chip's pace, or slowed down as chosen below";
  again.addEventListener("click", () => replay(li, turn));
  li.append(cyclesOf(turn.usage, key));
}

function drawAll() {
  $("turns").replaceChildren();
  store.current.turns.forEach(item);
  $("empty").hidden = store.current.turns.length > 0;
  $("chats").replaceChildren(...store.chats.map((chat) =>
    new Option(chat.title, chat.id, false, chat === store.current)));
}

function messages() {
  const said = store.current.turns.filter((turn) => turn.text)
    .map(({ role, text }) => ({ role, content: text }));
  const system = $("system").value.trim();
  return system ? [{ role: "system", content: system }, ...said] : said;
}

function request() {
  const body = { messages: messages(), top_k: Number($("top-k").value) };
  if (body.top_k > 1) body.temperature = Number($("temperature").value);
  if ($("seed").value) body.seed = Number($("seed").value);
  if ($("max-tokens").value) body.max_tokens = Number($("max-tokens").value);
  return body;
}

const slowdown = () => ($("pace").value === "slow" ? Math.max(1, Number($("times").value)) : 1);

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

function replay(li, turn) {
  if (working) return;
  const said = li.querySelector(".said");
  const show = (text) => { said.textContent += text; };
  busy("Replaying", async (signal) => {
    said.textContent = "";
    await play(turn.pieces ?? [[turn.text, 0]], slowdown(), show, signal);
    said.textContent = turn.text;
  });
}

async function ask(question) {
  const file = attachment ? `${attachment.name}:\n${attachment.content}\n\n` : "";
  const shown = attachment ? `[${attachment.name}]\n${question}` : undefined;
  const stays = atEnd();
  item(store.add({ role: "user", text: file + question, shown }));
  attach(null);
  const turn = { role: "assistant", text: "", pieces: [] };
  const body = request();
  store.add(turn);
  drawAll();
  const li = $("turns").lastElementChild;
  const said = li.querySelector(".said");
  const now = $("pace").value === "host";
  li.setAttribute("aria-busy", "true");
  const show = (text) => {
    const follow = atEnd();
    said.textContent += text;
    if (follow) toEnd();
  };
  if (stays) toEnd();
  await busy("Waiting for the chip", async (signal) => {
    try {
      for await (const event of answer(body, key(), signal)) {
        if (event.usage) turn.usage = event.usage;
        const text = event.choices[0]?.delta.content;
        if (!text) continue;
        turn.text += text;
        turn.pieces.push([text, event.chip.seconds]);
        $("status").textContent = `${now ? "Answering" : "Emulating"}, ${event.chip.tokens} tokens`;
        if (now) show(text);
      }
      if (!now) await play(turn.pieces, slowdown(), show, signal);
    } catch (error) {
      turn.error = signal.aborted ? "Stopped." : error.message;
    }
  });
  li.removeAttribute("aria-busy");
  said.textContent = turn.text;
  const follow = atEnd();
  finish(li, turn);
  if (follow) toEnd();
  store.save();
}

const atEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - 80;
const toEnd = () => scrollTo(0, document.documentElement.scrollHeight);

function attach(file) {
  attachment = file;
  $("attached").textContent = file ? file.name : "";
  $("file").value = "";
}

$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  if (!file) return;
  const bytes = new Uint8Array(await file.arrayBuffer());
  try {
    if (bytes.length > attachmentBytes) throw new Error(`more than ${attachmentBytes} bytes`);
    attach({ name: file.name, content: new TextDecoder("utf-8", { fatal: true }).decode(bytes) });
  } catch (error) {
    attach(null);
    $("status").textContent = `${file.name} is not attached: ${error.message}`;
  }
});

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || working) return;
  $("question").value = "";
  ask(question).then(() => $("question").focus());
});

$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});

$("empty").addEventListener("click", (event) => {
  if (event.target.tagName !== "BUTTON") return;
  $("question").value = event.target.textContent;
  $("ask").requestSubmit();
});

$("stop").addEventListener("click", () => working?.abort());
$("new").addEventListener("click", () => { working?.abort(); store.begin(); drawAll(); $("question").focus(); });
$("forget").addEventListener("click", () => { working?.abort(); store.forget(); drawAll(); });
$("chats").addEventListener("change", () => { working?.abort(); store.open($("chats").value); drawAll(); });

function keepSettings() {
  $("slower").hidden = $("pace").value !== "slow";
  const values = Object.fromEntries(SETTINGS.map((id) => [id, $(id).value]));
  try {
    localStorage.setItem("hardwired.settings", JSON.stringify(values));
    sessionStorage.setItem("hardwired.key", key());
  } catch { /* not kept, then */ }
}

function loadSettings() {
  for (let k = 1; k <= 8; k += 1) $("top-k").append(new Option(k === 1 ? "1, greedy" : k, k));
  try {
    const values = JSON.parse(localStorage.getItem("hardwired.settings") ?? "{}");
    for (const id of SETTINGS) if (typeof values[id] === "string") $(id).value = values[id];
    $("api-key").value = sessionStorage.getItem("hardwired.key") ?? "";
  } catch { /* the defaults, then */ }
  for (const id of [...SETTINGS, "api-key"]) $(id).addEventListener("change", keepSettings);
  $("slower").hidden = $("pace").value !== "slow";
}

async function introduce() {
  try {
    const about = await getJson("hardwired/about", key());
    attachmentBytes = about.attachment_bytes;
    const weights = new Intl.NumberFormat("en", { notation: "compact" }).format(about.parameters);
    $("about").textContent = `${about.model}: ${weights} weights of ` +
      `${about.bits_per_weight.toFixed(2)} bits, ${count(about.context)} positions, at ` +
      `${about.clock_hz / 1e9} GHz. Chip times are estimates.`;
  } catch (error) {
    $("about").textContent = error.message;
  }
}

loadSettings();
drawAll();
introduce();
$("api-key").addEventListener("change", introduce);
