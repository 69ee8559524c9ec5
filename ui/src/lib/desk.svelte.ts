// The last truth that was heard, who sits here, and whether the window is locked. The page holds no other truth.

import type { Desk, Opening, PauseFor, Problem, Right } from './bindings';
import { act } from './act.svelte';
import { count } from './format';
import * as ipc from './ipc';
import { names } from './names.svelte';
import { route } from './route.svelte';
import { say } from './say.svelte';

class Window {
  opening = $state.raw<Opening | null>(null);
  desk = $state.raw<Desk | null>(null);
  /** The first question got no answer. */
  problem = $state.raw<Problem | null>(null);
  /** The keyboard's commands and the summary for IT are on the screen. */
  helping = $state(false);

  async start() {
    await Promise.all([
      ipc.onDesk((desk) => this.#take(desk)),
      ipc.onGo((place) => route.follow(place)),
      ipc.onLocked(() => void this.#locked()),
    ]);
    await this.open();
  }

  /** Asks anew what there is to show. */
  async open() {
    try {
      this.problem = null;
      const opening = await ipc.opening();
      const desk = opening.is === 'ready' ? await ipc.desk() : null;
      this.opening = opening;
      if (desk) this.#take(desk);
    } catch (thrown) {
      this.problem = ipc.asProblem(thrown);
    }
  }

  #take(desk: Desk) {
    // A picture that was on its way when the window locked.
    if (this.opening?.is === 'locked') return;
    if (this.opening?.is !== 'ready') this.opening = { is: 'ready' };
    const before = this.desk;
    this.desk = desk;
    if (desk.station.privacy && before && !before.station.privacy) names.forget();
    if (before) this.#tell(before, desk);
  }

  #tell(before: Desk, now: Desk) {
    if (before.live.is === 'live' && now.live.is === 'silent') say.politely(now.live.sentence);
    const sent = now.overview.sent_today - before.overview.sent_today;
    const attention = now.attention - before.attention;
    if (attention > 0) say.politely(`${count(now.attention, 'item needs', 'items need')} attention.`);
    if (sent > 0) say.politely(`${count(sent, 'change')} sent.`);
    if (before.card.state !== now.card.state && now.card.state !== 'working' && before.card.state !== 'working') {
      say.politely(now.card.sentence);
    }
    if (now.sync.last && now.sync.last !== before.sync.last) say.politely(now.sync.last);
  }

  may(right: Right): boolean {
    return this.desk?.station.rights.includes(right) ?? false;
  }

  /** Nothing can be asked of a sync that does not answer. */
  get silent(): boolean {
    return this.desk?.live.is === 'silent';
  }

  syncNow() {
    if (!this.may('sync-now') || this.silent || !this.desk?.sync.can) return;
    void act.run('sync', ipc.syncNow);
  }

  pause(length: PauseFor) {
    return act.run('pause', () => ipc.pause(length));
  }

  resume() {
    return act.run('pause', ipc.resume);
  }

  setPrivacy(on: boolean) {
    if (on) names.forget();
    return act.run('privacy', () => ipc.setPrivacy(on));
  }

  lock() {
    if (this.opening?.is !== 'ready') return;
    void act.run('lock', async () => {
      await ipc.lock();
      await this.#locked();
    });
  }

  /** Everything that was on the screen is let go, not covered. */
  async #locked() {
    this.opening = { is: 'locked', pin: this.desk?.station.pin ?? true };
    this.desk = null;
    this.helping = false;
    names.forget();
    say.forget();
    try {
      const opening = await ipc.opening();
      if (opening.is === 'locked') this.opening = opening;
    } catch {
      // It stays locked.
    }
  }

  /** False if the PIN was wrong. */
  async unlock(pin: string): Promise<boolean> {
    const right = await ipc.unlock(pin);
    if (right) {
      this.opening = null;
      await this.open();
    }
    return right;
  }
}

export const here = new Window();
