// An answer's Markdown as elements. Nothing of the model's becomes HTML of its own: markdown-it
// writes what looks like HTML as text, and DOMPurify lets only the elements below through.
import { copy, make } from "./dom.js";

const MOST_CHARACTERS = 40_000; // beyond, plain text: 40,000 open brackets take a second or two
const TAGS = [
  "p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a",
  "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td",
];
const RULES = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ["href", "title", "start", "class"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const markdown = window.markdownit({ html: false, linkify: false });
markdown.disable("image"); // no request is sent because a model names an address

export function show(place, text) {
  if (text.length > MOST_CHARACTERS) return showPlain(place, text);
  const clean = window.DOMPurify.sanitize(markdown.render(text), RULES);
  for (const link of clean.querySelectorAll("a")) {
    Object.assign(link, { target: "_blank", rel: "noopener noreferrer nofollow" });
  }
  clean.querySelectorAll("pre").forEach(frameCode);
  clean.querySelectorAll("table").forEach((table) => {
    const frame = document.createElement("div");
    frame.className = "wide-table";
    table.replaceWith(frame);
    frame.append(table);
  });
  place.classList.remove("plain");
  place.replaceChildren(clean);
}

export function showPlain(place, text) {
  place.classList.add("plain");
  place.textContent = text;
}

// A bar over a code block, with its language and a button that copies it.
function frameCode(pre) {
  const code = pre.querySelector("code") ?? pre;
  const language = /^language-([\w+#.-]{1,30})$/.exec(code.className)?.[1] ?? "";
  const frame = document.createElement("div");
  frame.className = "code";
  pre.replaceWith(frame);
  const bar = make(frame, "div", "", { className: "code-bar" });
  make(bar, "span", language);
  const button = make(bar, "button", "Copy", { type: "button", className: "small" });
  button.addEventListener("click", () => copy(code.textContent, button));
  frame.append(pre);
}

// Shows a growing text: as often as it can without spending more than a quarter of the time.
export class Painter {
  constructor(place) {
    this.place = place;
    this.text = "";
    this.next = 0; // performance.now()
    this.timer = null;
  }

  add(text) {
    this.text += text;
    if (this.timer) return;
    const wait = Math.max(0, this.next - performance.now());
    this.timer = setTimeout(() => this.paint(), wait);
  }

  paint() {
    clearTimeout(this.timer);
    this.timer = null;
    const begin = performance.now();
    show(this.place, this.text);
    this.next = performance.now() + Math.max(40, 3 * (performance.now() - begin));
  }
}
