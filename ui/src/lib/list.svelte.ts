// A list that is asked for when its view is open and something may have changed; at most once a second. What is shown stays until
// something newer is known: a failure leaves the rows where they are.

import { untrack } from 'svelte';
import type { Problem } from './bindings';
import { asProblem } from './ipc';

const APART = 1_000;
const SLOW = 300;

export class Live<T> {
  data = $state.raw<T | null>(null);
  problem = $state.raw<Problem | null>(null);
  /** Nothing to show yet, and long enough for a skeleton. */
  slow = $state(false);
  #ask: () => Promise<T>;
  #asking = false;
  #again = false;
  #closed = false;
  #last = 0;
  #later: ReturnType<typeof setTimeout> | undefined;
  #skeleton: ReturnType<typeof setTimeout>;
  /** Rises with every change of the question; an answer to an older one is dropped. */
  #question = 0;

  /** Call while a component starts; `revision` is read inside an effect. */
  constructor(ask: () => Promise<T>, revision: () => unknown) {
    this.#ask = ask;
    this.#skeleton = setTimeout(() => (this.slow = this.data === null), SLOW);
    $effect(() => {
      revision();
      untrack(() => this.refresh());
    });
    $effect(() => () => {
      this.#closed = true;
      clearTimeout(this.#later);
      clearTimeout(this.#skeleton);
    });
  }

  /** The question is another one now: ask at once. */
  anew() {
    this.#question += 1;
    this.#last = 0;
    return this.refresh();
  }

  refresh(): Promise<void> {
    if (this.#asking) {
      this.#again = true;
      return Promise.resolve();
    }
    const wait = this.#last + APART - Date.now();
    if (wait > 0) {
      this.#later ??= setTimeout(() => {
        this.#later = undefined;
        void this.#now();
      }, wait);
      return Promise.resolve();
    }
    return this.#now();
  }

  async #now() {
    if (this.#closed) return;
    this.#asking = true;
    this.#last = Date.now();
    const question = this.#question;
    try {
      const data = await this.#ask();
      if (question === this.#question && !this.#closed) {
        this.data = data;
        this.problem = null;
        this.slow = false;
      }
    } catch (thrown) {
      if (question === this.#question) this.problem = asProblem(thrown);
    } finally {
      this.#asking = false;
      if (this.#again) {
        this.#again = false;
        void this.refresh();
      }
    }
  }
}

/** A row that is shown: as it is, as it was when the order was made, and whether it has left the list since. */
export type Held<R> = { row: R; was: R; gone: boolean };

/**
 * Rows do not move under the hand: while the table is held, what is shown keeps its order, takes over what is newer, and stays when it
 * has left; what is new is only counted.
 */
export class Steady<R> {
  rows = $state.raw<Held<R>[]>([]);
  fresh = $state(0);
  #key: (row: R) => string;
  #latest: R[] = [];

  constructor(key: (row: R) => string) {
    this.#key = key;
  }

  take(latest: R[], held: boolean) {
    this.#latest = latest;
    if (!held || untrack(() => this.rows.length) === 0) return this.settle();
    const known = new Map(latest.map((row) => [this.#key(row), row]));
    const shown = untrack(() => this.rows);
    const kept = shown.map(({ row, was }) => {
      const now = known.get(this.#key(row));
      return { row: now ?? row, was, gone: now === undefined };
    });
    const keys = new Set(shown.map(({ row }) => this.#key(row)));
    const last = latest.findLastIndex((row) => keys.has(this.#key(row)));
    // What comes below all that is shown moves nothing.
    const below = latest.slice(last + 1).map((row) => ({ row, was: row, gone: false }));
    this.rows = last < 0 ? kept : [...kept, ...below];
    this.fresh = latest.filter((row, index) => (last < 0 || index < last) && !keys.has(this.#key(row))).length;
  }

  settle() {
    this.rows = this.#latest.map((row) => ({ row, was: row, gone: false }));
    this.fresh = 0;
  }
}
