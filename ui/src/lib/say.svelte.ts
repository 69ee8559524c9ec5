// What is said aloud. One polite region with a summary at most every ten seconds; an alert only for what failed.

import type { Problem } from './bindings';

const PAUSE = 10_000;

class Say {
  polite = $state('');
  problem = $state.raw<Problem | null>(null);
  #waiting: string[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Said now if nothing was said lately, otherwise together with what else comes up meanwhile. */
  politely(sentence: string) {
    if (!this.#waiting.includes(sentence)) this.#waiting.push(sentence);
    if (this.#timer === undefined) this.#speak();
  }

  #speak() {
    if (this.#waiting.length === 0) {
      this.#timer = undefined;
      return;
    }
    this.polite = this.#waiting.join(' ');
    this.#waiting = [];
    this.#timer = setTimeout(() => this.#speak(), PAUSE);
  }

  alert(problem: Problem) {
    this.problem = problem;
  }

  hush() {
    this.problem = null;
  }

  /** Before the window locks. */
  forget() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waiting = [];
    this.polite = '';
    this.problem = null;
  }
}

export const say = new Say();
