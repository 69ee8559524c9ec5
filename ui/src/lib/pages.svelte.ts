// The newest page of a long list, asked for again when something may have changed, and the older pages that were asked for.

import type { Problem } from './bindings';
import { asProblem } from './ipc';
import { Live } from './list.svelte';

type Page = { rows: { entry: number }[]; next: number | null };

export class Pages<P extends Page> {
  first: Live<P>;
  #older = $state.raw<P['rows']>([]);
  #next = $state.raw<number | null | undefined>(undefined);
  problem = $state.raw<Problem | null>(null);
  busy = $state(false);
  #ask: (before: number | null) => Promise<P>;
  #turn = 0;

  /** `question` is read inside an effect: when it changes, everything is asked for anew. */
  constructor(ask: (before: number | null) => Promise<P>, revision: () => unknown, question: () => string) {
    this.#ask = ask;
    this.first = new Live(() => ask(null), revision);
    let asked: string | undefined;
    $effect(() => {
      const now = question();
      if (asked !== undefined && asked !== now) {
        this.#turn += 1;
        this.#older = [];
        this.#next = undefined;
        void this.first.anew();
      }
      asked = now;
    });
  }

  rows = $derived.by((): P['rows'] => {
    const first = this.first.data?.rows ?? [];
    const last = first.at(-1)?.entry ?? Infinity;
    return [...first, ...this.#older.filter((row) => row.entry < last)];
  });

  next = $derived.by(() => (this.#next === undefined ? (this.first.data?.next ?? null) : this.#next));

  /** What stood on the first page stays in the list when newer entries push it off. */
  async more() {
    const before = this.next;
    if (before === null || this.busy) return;
    const turn = this.#turn;
    this.busy = true;
    try {
      const page = await this.#ask(before);
      if (turn !== this.#turn) return;
      this.#older = [...this.rows, ...page.rows];
      this.#next = page.next;
      this.problem = null;
    } catch (thrown) {
      this.problem = asProblem(thrown);
    } finally {
      this.busy = false;
    }
  }
}
