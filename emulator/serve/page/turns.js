// One turn of a conversation as an element: what was said, what it cost, what can be done with it.
import { cyclesOf } from "./bars.js";
import { copy, make } from "./dom.js";
import { show } from "./markdown.js";
import { speeds } from "./pace.js";
import { key } from "./settings.js";

// `acts` holds what a button does: edit(turn, text), regenerate(turn), replay(li, turn), die(turn).
export function drawTurn(turn, acts) {
  const li = document.createElement("li");
  li.className = turn.role;
  const said = make(li, "div", "", { className: "said" });
  if (turn.role === "assistant") {
    show(said, turn.text);
    finish(li, turn, acts);
  } else {
    said.textContent = turn.shown ?? turn.text; // what the user wrote is shown as written
    said.classList.add("plain");
    if (acts.edit) {
      const row = make(li, "div", "", { className: "acts" });
      button(row, "Edit", "Change the question and ask again; what follows stays in a conversation of its own",
        () => edit(li, turn, acts));
    }
  }
  return li;
}

// What stands under an answer: an error, the speeds, the buttons, the cycles by block.
export function finish(li, turn, acts) {
  if (turn.error) {
    make(li, "p", turn.error, { className: "error" }).setAttribute("role", "alert");
  }
  if (turn.usage) li.append(speeds(turn.usage, turn.seed));
  const row = make(li, "div", "", { className: "acts" });
  if (turn.text) {
    const copier = button(row, "Copy", "Copy the answer's text", () => copy(turn.text, copier));
  }
  button(row, "Regenerate", "Ask for another answer; a fixed seed gives the same one",
    () => acts.regenerate(turn)).classList.add("last-only");
  if (!turn.usage) return;
  button(row, "Replay", "Show it again at the chip's pace, or slowed down as the settings say",
    () => acts.replay(li, turn));
  button(row, "Die view", "See which blocks of the chip made each token", () => acts.die(turn))
    .classList.add("die-open");
  li.append(cyclesOf(turn.usage, key));
}

function edit(li, turn, acts) {
  const said = li.querySelector(".said");
  const form = document.createElement("form");
  form.className = "edit";
  const field = make(form, "textarea", "", { value: turn.asked ?? turn.text, required: true });
  field.setAttribute("aria-label", "Changed question");
  const row = make(form, "div", "", { className: "acts" });
  make(row, "button", "Send", { className: "small" });
  const back = () => li.replaceWith(drawTurn(turn, acts));
  button(row, "Cancel", "Leave it as it was", back);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim()) acts.edit(turn, field.value.trim());
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") back();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  li.querySelector(".acts").remove();
  said.replaceWith(form);
  field.focus();
}

function button(parent, name, title, act) {
  const element = make(parent, "button", name, { type: "button", className: "small", title });
  element.addEventListener("click", act);
  return element;
}
