// What the user chose: kept in this browser, the key only as long as the tab.
import { $ } from "./dom.js";

const SETTINGS = ["system", "top-k", "temperature", "seed", "max-tokens", "pace", "times"];

export const key = () => $("api-key").value;
export const slowdown = () =>
  ($("pace").value === "slow" ? Math.max(1, Number($("times").value) || 1) : 1);

// The fields of a request, its messages aside.
export function wishes() {
  const body = { top_k: Number($("top-k").value), logprobs: true, top_logprobs: 8 };
  if (body.top_k > 1) body.temperature = Number($("temperature").value);
  if ($("seed").value) body.seed = Number($("seed").value);
  if ($("max-tokens").value) body.max_tokens = Number($("max-tokens").value);
  return body;
}

function keep() {
  $("slower").hidden = $("pace").value !== "slow";
  const values = Object.fromEntries(SETTINGS.map((id) => [id, $(id).value]));
  try {
    localStorage.setItem("hardwired.settings", JSON.stringify(values));
    sessionStorage.setItem("hardwired.key", key());
  } catch { /* not kept, then */ }
}

export function loadSettings() {
  for (let k = 1; k <= 8; k += 1) $("top-k").append(new Option(k === 1 ? "1, greedy" : k, k));
  $("top-k").value = "8";
  try {
    const values = JSON.parse(localStorage.getItem("hardwired.settings") ?? "{}");
    for (const id of SETTINGS) if (typeof values[id] === "string") $(id).value = values[id];
    $("api-key").value = sessionStorage.getItem("hardwired.key") ?? "";
  } catch { /* the defaults, then */ }
  for (const id of [...SETTINGS, "api-key"]) $(id).addEventListener("change", keep);
  $("slower").hidden = $("pace").value !== "slow";
}
