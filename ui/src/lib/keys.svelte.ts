// The keyboard's commands. Single keys can be switched off (WCAG 2.1.4); that one choice is all that the window keeps.

import type { View } from './route.svelte';

const KEPT = 'single-keys';

class Keys {
  /** Single keys such as `/` and `?` work. */
  single = $state(localStorage.getItem(KEPT) !== 'off');

  choose(on: boolean) {
    this.single = on;
    if (on) localStorage.removeItem(KEPT);
    else localStorage.setItem(KEPT, 'off');
  }
}

export const keys = new Keys();

export type Pressed = { is: 'view'; view: View } | { is: 'sync' | 'lock' | 'help' | 'search' };

const mac = navigator.userAgent.includes('Mac');
export const COMMAND = mac ? '⌘' : 'Ctrl';

/** Somebody is writing, or answering a question. */
export const elsewhere = (event: KeyboardEvent) =>
  event.defaultPrevented ||
  document.querySelector('dialog[open]') !== null ||
  (event.target instanceof HTMLElement && event.target.closest('input:not([type=checkbox], [type=radio]), select, textarea') !== null);

/** `views` in the order of their numbers. */
export function pressed(event: KeyboardEvent, views: View[]): Pressed | null {
  if ((mac ? event.metaKey : event.ctrlKey) && !event.altKey && !event.shiftKey) {
    const view = views[Number(event.key) - 1];
    const key = event.key.toLowerCase();
    // Reloading the page is never what is meant.
    if (key === 'r') return { is: 'sync' };
    if (key === 'l') return { is: 'lock' };
    if (view && !document.querySelector('dialog[open]')) return { is: 'view', view };
    return null;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || !keys.single || elsewhere(event)) return null;
  if (event.key === '?') return { is: 'help' };
  if (event.key === '/') return { is: 'search' };
  return null;
}
