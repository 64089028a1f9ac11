// The page: conversations at the side, a composer below, and what an answer cost under each.
import { getJson } from "./api.js";
import { Asking, isBusy, stop } from "./asking.js";
import { startDie } from "./die.js";
import { $, make } from "./dom.js";
import { count } from "./pace.js";
import { key, loadSettings } from "./settings.js";
import { drawSidebar, fold, startSidebar } from "./sidebar.js";
import { Store } from "./store.js";

const store = new Store();
const asking = new Asking(store, drawAll);
let attachment = null; // { name, content }
let attachmentBytes = 51200;

function drawAll() {
  asking.draw();
  drawSidebar(store, {
    open: (id) => { stop(); store.open(id); drawAll(); },
    forget: (id) => {
      stop();
      const bringBack = store.forget(id);
      drawAll();
      $("status").textContent = "Conversation deleted. ";
      const undo = make($("status"), "button", "Undo", { type: "button", className: "small" });
      undo.addEventListener("click", () => { bringBack(); $("status").textContent = ""; drawAll(); });
    },
  });
}

function attach(file) {
  attachment = file;
  $("attached").replaceChildren();
  $("file").value = "";
  if (!file) return;
  const drop = make($("attached"), "button", `${file.name} ×`, { type: "button", className: "small" });
  drop.ariaLabel = `Leave ${file.name} out`;
  drop.addEventListener("click", () => attach(null));
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
  if (!question || isBusy()) return;
  $("question").value = "";
  const file = attachment;
  attach(null);
  asking.ask(question, file).then(() => $("question").focus({ preventScroll: true }));
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

$("stop").addEventListener("click", stop);
$("new").addEventListener("click", () => {
  stop();
  store.begin();
  drawAll();
  if (matchMedia("(max-width: 50rem)").matches) fold(false);
  $("question").focus();
});
$("open-settings").addEventListener("click", () => $("settings").showModal());
for (const dialog of document.querySelectorAll("dialog")) { // a click beside it closes it
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
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
startSidebar();
startDie();
drawAll();
introduce();
$("api-key").addEventListener("change", introduce);
