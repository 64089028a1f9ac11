// Shows pieces of an answer when the chip would have said them, or `times` later than that.

export async function play(pieces, times, show, signal) {
  const begin = performance.now();
  for (const [text, seconds] of pieces) {
    const due = begin + 1000 * seconds * times;
    while (performance.now() < due) {
      if (signal.aborted) return;
      await new Promise((resolve) => setTimeout(resolve, Math.min(100, due - performance.now())));
    }
    show(text);
  }
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function count(value) {
  return whole.format(value);
}

export function time(seconds) {
  if (seconds < 1e-3) return `${(seconds * 1e6).toFixed(1)} µs`;
  return seconds < 1 ? `${(seconds * 1e3).toFixed(2)} ms` : `${seconds.toFixed(2)} s`;
}

// The chip's time, estimated, beside this computer's, measured: a list of pairs.
export function speeds(usage, seed) {
  const { chip, host, completion_tokens: tokens } = usage;
  const list = document.createElement("dl");
  list.className = "under";
  const line = (name, rate, rest) => {
    list.appendChild(document.createElement("dt")).textContent = name;
    const value = list.appendChild(document.createElement("dd"));
    if (rate) value.appendChild(document.createElement("b")).textContent = `${rate} tok/s`;
    value.append(rate ? ` · ${rest}` : rest);
  };
  const queue = host.queue_seconds > 0.05 ? `, after ${time(host.queue_seconds)} in the queue` : "";
  line("Chip", chip.tokens_per_second && count(chip.tokens_per_second),
    `${time(chip.seconds)} in all · ${count(chip.cycles)} cycles (estimate)`);
  line("Host", (tokens / host.seconds).toFixed(1), `${time(host.seconds)} in all${queue} (measured)`);
  const drawn = seed === undefined ? "" : ` · seed ${seed}`;
  line("Length", "", `${count(usage.prompt_tokens)} + ${count(tokens)} tokens${drawn}`);
  return list;
}
