// Everything a button does: one at a time under one name, and a refusal is told in an alert.

import { asProblem } from './ipc';
import { say } from './say.svelte';

class Act {
  #busy = $state.raw<ReadonlySet<string>>(new Set());

  busy(name: string) {
    return this.#busy.has(name);
  }

  /** True once it is done; false if it was refused, or is under way already. */
  async run(name: string, what: () => Promise<unknown>): Promise<boolean> {
    if (this.busy(name)) return false;
    this.#busy = new Set(this.#busy).add(name);
    say.hush();
    try {
      await what();
      return true;
    } catch (thrown) {
      say.alert(asProblem(thrown));
      return false;
    } finally {
      const rest = new Set(this.#busy);
      rest.delete(name);
      this.#busy = rest;
    }
  }
}

export const act = new Act();

/** One click; the relay does nothing for a token that it has seen. */
export const token = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
