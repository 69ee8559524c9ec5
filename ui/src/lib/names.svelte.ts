// Patients' names, for as long as they are on the screen: ten seconds each, or while privacy is off and the row is in sight.
// They are read live from the chart each time and kept nowhere else; every reading is audited.

import { asProblem, reveal } from './ipc';

const SHOWN = 10_000;

export type Shown = { name: string | null; sentence: string | null };

class Names {
  #shown = $state.raw<ReadonlyMap<string, Shown>>(new Map());
  #timers = new Map<string, ReturnType<typeof setTimeout>>();
  #asked = new Set<string>();
  #inSight = new Map<string, number>();
  #batch = new Set<string>();
  /** Rises with every forgetting, so that an answer that comes too late is not shown. */
  #turn = 0;

  shown(key: string): Shown | undefined {
    return this.#shown.get(key);
  }

  /** One row for ten seconds. */
  async peek(key: string) {
    await this.#ask([key]);
    if (!this.#shown.has(key)) return;
    clearTimeout(this.#timers.get(key));
    this.#timers.set(
      key,
      setTimeout(() => this.mask(key), SHOWN),
    );
  }

  mask(key: string) {
    clearTimeout(this.#timers.get(key));
    this.#timers.delete(key);
    if (!this.#shown.has(key)) return;
    const rest = new Map(this.#shown);
    rest.delete(key);
    this.#shown = rest;
  }

  /** A row came into sight while privacy is off; all that come at once are asked for at once. */
  enter(key: string) {
    this.#inSight.set(key, (this.#inSight.get(key) ?? 0) + 1);
    if (this.#shown.has(key) || this.#asked.has(key)) return;
    if (this.#batch.size === 0) queueMicrotask(() => this.#flush());
    this.#batch.add(key);
  }

  leave(key: string) {
    const left = (this.#inSight.get(key) ?? 1) - 1;
    if (left > 0) {
      this.#inSight.set(key, left);
      return;
    }
    this.#inSight.delete(key);
    this.#batch.delete(key);
    this.mask(key);
  }

  forget() {
    this.#turn += 1;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#batch.clear();
    this.#asked.clear();
    this.#shown = new Map();
  }

  async #flush() {
    const keys = [...this.#batch];
    this.#batch.clear();
    if (keys.length === 0) return;
    const turn = this.#turn;
    await this.#ask(keys);
    if (turn !== this.#turn) return;
    for (const key of keys) if (!this.#inSight.has(key)) this.mask(key);
  }

  async #ask(keys: string[]) {
    const turn = this.#turn;
    for (const key of keys) this.#asked.add(key);
    let answers: Map<string, Shown>;
    try {
      answers = new Map((await reveal(keys)).map(({ key, name, sentence }) => [key, { name, sentence }]));
    } catch (thrown) {
      const { sentence } = asProblem(thrown);
      answers = new Map(keys.map((key) => [key, { name: null, sentence }]));
    }
    if (turn !== this.#turn) return;
    for (const key of keys) this.#asked.delete(key);
    this.#shown = new Map([...this.#shown, ...answers]);
  }
}

export const names = new Names();
