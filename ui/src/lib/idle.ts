/** Calls `then` once nobody has pressed a key or a button for so long; a computer that slept meanwhile counts as idle. */
export function idle(after: number, then: () => void): () => void {
  let last = Date.now();
  let timer: ReturnType<typeof setTimeout>;
  const look = () => {
    clearTimeout(timer);
    const left = last + after - Date.now();
    if (left <= 0) then();
    else timer = setTimeout(look, left);
  };
  const touch = () => {
    // Waking up: the time is over before the first key is.
    if (Date.now() - last >= after) look();
    else last = Date.now();
  };
  const events = ['keydown', 'pointerdown', 'wheel'] as const;
  for (const name of events) addEventListener(name, touch, { capture: true, passive: true });
  document.addEventListener('visibilitychange', look);
  look();
  return () => {
    clearTimeout(timer);
    for (const name of events) removeEventListener(name, touch, { capture: true });
    document.removeEventListener('visibilitychange', look);
  };
}
