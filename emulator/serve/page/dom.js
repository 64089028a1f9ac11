// Three helpers that every part of the page uses.

export const $ = (id) => document.getElementById(id);

// A new element with text and properties, at the end of `parent`.
export function make(parent, tag, text = "", properties = {}) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  Object.assign(element, properties);
  parent.append(element);
  return element;
}

// Copy, also where the browser forbids the clipboard because the page came over plain HTTP.
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = make(document.body, "textarea", text, { className: "hidden" });
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  const name = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = name; }, 1500);
}
