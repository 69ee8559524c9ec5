// The time for ages and countdowns. It stands still while nobody can see the window.

class Clock {
  now = $state(Date.now());

  start(): () => void {
    let timer: ReturnType<typeof setInterval> | undefined;
    const tick = () => (this.now = Date.now());
    const follow = () => {
      clearInterval(timer);
      timer = undefined;
      if (document.visibilityState === 'visible') {
        tick();
        timer = setInterval(tick, 1_000);
      }
    };
    document.addEventListener('visibilitychange', follow);
    follow();
    return () => {
      document.removeEventListener('visibilitychange', follow);
      clearInterval(timer);
    };
  }
}

export const clock = new Clock();
