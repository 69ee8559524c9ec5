// Values of a record, for as long as a person looks at them: read live each time and kept nowhere else. They go when names are hidden,
// when the view is left or the window locks; and with names hidden from the start, when nobody has done anything for a minute.

import { untrack } from 'svelte';
import type { Problem } from './bindings';
import { here } from './desk.svelte';
import { asProblem } from './ipc';

const SHOWN = 60_000;

export class Glimpse<T> {
  shown = $state.raw<T | null>(null);
  problem = $state.raw<Problem | null>(null);
  busy = $state(false);
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Rises with every forgetting, so that an answer that comes too late is not shown. */
  #turn = 0;
  #gone: () => void;

  /** Call while a component starts; `gone` lets go what was made of the values. */
  constructor(gone: () => void = () => {}) {
    this.#gone = gone;
    let hidden = here.desk?.station.privacy ?? true;
    $effect(() => {
      const now = here.desk?.station.privacy ?? true;
      if (now && !hidden) untrack(() => this.forget());
      hidden = now;
    });
    $effect(() => () => this.forget());
  }

  /** True once it is shown. */
  async read(ask: () => Promise<T>): Promise<boolean> {
    const turn = ++this.#turn;
    this.busy = true;
    this.problem = null;
    try {
      const answer = await ask();
      if (turn !== this.#turn) return false;
      this.shown = answer;
      this.touch();
      return true;
    } catch (thrown) {
      if (turn === this.#turn) this.problem = asProblem(thrown);
      return false;
    } finally {
      if (turn === this.#turn) this.busy = false;
    }
  }

  /** Somebody is still there. */
  touch() {
    clearTimeout(this.#timer);
    if (this.shown === null || !(here.desk?.station.privacy ?? true)) return;
    this.#timer = setTimeout(() => this.forget(), SHOWN);
  }

  forget() {
    clearTimeout(this.#timer);
    this.#turn += 1;
    this.busy = false;
    this.shown = null;
    this.problem = null;
    this.#gone();
  }
}
