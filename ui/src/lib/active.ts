// The lock is the program's: the page only says that somebody is there, every few seconds at most.

import { active } from './ipc';

const APART = 5_000;

export function watch(): () => void {
  let last = -Infinity;
  const touch = () => {
    if (performance.now() - last < APART) return;
    last = performance.now();
    active().catch(() => {});
  };
  const events = ['keydown', 'pointerdown', 'pointermove', 'wheel'] as const;
  for (const name of events) addEventListener(name, touch, { capture: true, passive: true });
  return () => {
    for (const name of events) removeEventListener(name, touch, { capture: true });
  };
}
