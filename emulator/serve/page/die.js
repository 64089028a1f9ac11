// The die view: an answer replayed on the floor plan, many times slower than the chip.
import { getJson } from "./api.js";
import { showToken } from "./die-facts.js";
import { $ } from "./dom.js";
import { busiest, lightOf, Plan } from "./die-plan.js";
import { count, time } from "./pace.js";

let open = null; // the replay in the dialog

export async function openDie(turn, key) {
  open?.pause();
  open = new Replay(turn, key);
  $("die").showModal();
  await open.goTo(1);
}

class Replay {
  constructor(turn, key) {
    this.turn = turn;
    this.key = key;
    this.tokens = turn.usage.completion_tokens;
    this.number = 1; // of the reply's token, from 1
    this.cycle = 0; // of that token; 0 and paused shows the whole token at once
    this.playing = false;
    this.run = 0; // of play, counted
    this.report = null;
    this.plan = null;
    this.known = new Map(); // reports by context
    $("die-token").max = this.tokens;
  }

  // Cycles and energy of a reply token: the pass of the token before it made it.
  async load(number) {
    const context = this.turn.usage.prompt_tokens + number - 1;
    if (!this.known.has(context)) {
      this.known.set(context, getJson(`hardwired/die?context=${context}`, this.key()));
    }
    return this.known.get(context);
  }

  async goTo(number) {
    this.number = number;
    try {
      const report = await this.load(number);
      if (this.number !== number || open !== this) return;
      this.report = report;
    } catch (error) {
      $("die-note").textContent = error.message;
      this.known.clear();
      return this.pause();
    }
    this.plan ??= new Plan($("die-plan"), this.report.places);
    this.cycle = 0;
    $("die-token").value = number;
    $("die-token").ariaValueText = `token ${number} of ${this.tokens}`;
    showToken(this.turn, number, this.report);
    note(this.report);
    if (!this.playing) this.draw(0, this.report.cycles);
    if (number < this.tokens) this.load(number + 1).catch(() => {}); // ready when it is wanted
  }

  play() {
    if (this.playing || !this.report) return;
    if (this.number === this.tokens && this.cycle >= this.report.cycles) return this.again();
    this.playing = true;
    $("die-play").textContent = "Pause";
    const run = (this.run += 1); // a frame of an earlier run, paused meanwhile, ends that one
    let before = performance.now();
    const frame = async (now) => {
      if (!this.playing || this.run !== run || open !== this) return;
      const seconds = Math.min(now - before, 100) / 1000 / Number($("die-speed").value);
      before = now;
      const from = this.cycle;
      this.cycle = Math.min(from + seconds * this.report.clock_hz, this.report.cycles);
      this.draw(from, this.cycle, true);
      if (this.cycle >= this.report.cycles) {
        if (this.number === this.tokens) return this.pause();
        await this.goTo(this.number + 1);
        before = performance.now();
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  async again() {
    await this.goTo(1);
    this.play();
  }

  pause() {
    this.playing = false;
    $("die-play").textContent = "Play";
  }

  // Light what works between two cycles, and say what that is.
  draw(from, to, fading = false) {
    this.plan.light(lightOf(this.report, from, to), fading);
    const whole = !fading; // only a still picture shows all of it
    $("die-progress").value = whole ? 0 : to / this.report.cycles;
    $("die-stage").textContent = whole ? "the whole token at once" : busiest(this.report, from, to);
    $("die-cycle").textContent = whole ? `${count(to)} cycles`
      : `cycle ${count(to)} of ${count(this.report.cycles)}`;
  }
}

function note(report) {
  const { low, mid, high } = report.area;
  const slower = Number($("die-speed").value);
  $("die-note").textContent = `A token takes ${time(report.seconds)} on the chip, here ` +
    `${time(report.seconds * slower)}. The die has ${mid.toFixed(0)} mm² (${low.toFixed(0)} to ` +
    `${high.toFixed(0)}), an estimate for this model. Areas are to scale; where a block lies is ` +
    "our choice, since nothing public says it. A block lights every unit it uses, from its first " +
    "value in to its last value out.";
}

export function startDie() {
  $("die-play").addEventListener("click", () => (open.playing ? open.pause() : open.play()));
  $("die-token").addEventListener("input", () => { open.pause(); open.goTo(Number($("die-token").value)); });
  $("die-speed").addEventListener("change", () => open?.report && note(open.report));
  $("die").addEventListener("close", () => open?.pause());
}
