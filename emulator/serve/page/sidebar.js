// The conversations at the side: beside the chat on a wide screen, over it on a narrow one.
import { $, make } from "./dom.js";

const narrow = matchMedia("(max-width: 50rem)");

export function fold(open) {
  document.body.classList.toggle("side-open", open);
  $("menu").setAttribute("aria-expanded", String(open));
  try {
    if (!narrow.matches) localStorage.setItem("hardwired.side", open ? "open" : "folded");
  } catch { /* not kept, then */ }
}

// `acts` holds open(id) and forget(id).
export function drawSidebar(store, acts) {
  $("chats").replaceChildren();
  for (const chat of store.chats) {
    const li = make($("chats"), "li");
    const open = make(li, "button", chat.title, { type: "button", className: "chat", title: chat.title });
    if (chat === store.current) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => { acts.open(chat.id); if (narrow.matches) fold(false); });
    const forget = make(li, "button", "×", { type: "button", className: "forget" });
    forget.ariaLabel = `Delete ${chat.title}`;
    forget.addEventListener("click", () => acts.forget(chat.id));
  }
}

export function startSidebar() {
  const isOpen = () => document.body.classList.contains("side-open");
  let kept = null;
  try { kept = localStorage.getItem("hardwired.side"); } catch { /* open, then */ }
  const begin = () => fold(!narrow.matches && kept !== "folded");
  begin();
  narrow.addEventListener("change", begin);
  $("menu").addEventListener("click", () => fold(!isOpen()));
  $("shade").addEventListener("click", () => fold(false));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && narrow.matches && isOpen()) { fold(false); $("menu").focus(); }
  });
}
