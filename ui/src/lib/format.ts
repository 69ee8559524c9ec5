// Times and figures as people read them. The sentences that come from Rust use the same forms: 24 hours, thin gaps in long numbers.

const part = (options: Intl.DateTimeFormatOptions) => new Intl.DateTimeFormat('en-GB', options);
const minutes = part({ hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const seconds = part({ hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const weekday = part({ weekday: 'long', day: 'numeric', month: 'long' });
const shortDay = part({ day: 'numeric', month: 'short' });
const whole = part({ weekday: 'short', day: 'numeric', month: 'short', year: 'numeric' });

/** `10:42`. */
export const time = (at: string | number) => minutes.format(new Date(at));

/** `10:42:18`. */
export const clock = (at: string | number) => seconds.format(new Date(at));

/** `Fri, 13 Mar 2026, 10:42:18`: for the title of a shorter form. */
export const full = (at: string | number) => `${whole.format(new Date(at))}, ${clock(at)}`;

const midnight = (at: number) => new Date(at).setHours(0, 0, 0, 0);

/** Whole days between two moments by the calendar; a day of 23 or 25 hours is a day. */
const daysBack = (at: number, now: number) => Math.round((midnight(now) - midnight(at)) / 86_400_000);

/** `Today`, `Yesterday`, `Monday 9 March`. */
export function day(at: string, now: number): string {
  const back = daysBack(Date.parse(at), now);
  return back === 0 ? 'Today' : back === 1 ? 'Yesterday' : weekday.format(new Date(at)).replace(',', '');
}

/** `10:42` today, `9 Mar 10:42` before. */
export function moment(at: string, now: number): string {
  return daysBack(Date.parse(at), now) === 0 ? time(at) : `${shortDay.format(new Date(at))} ${time(at)}`;
}

/** `40 s`, `3 min`, `2 h`, `4 days`. */
export function long(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 100) return `${whole} s`;
  if (whole < 6_000) return `${Math.floor(whole / 60)} min`;
  if (whole < 172_800) return `${Math.floor(whole / 3_600)} h`;
  return `${Math.floor(whole / 86_400)} days`;
}

export const age = (at: string, now: number) => long((now - Date.parse(at)) / 1000);

/** `420 ms`, `2.4 s`, `3 min`. */
export function span(milliseconds: number): string {
  if (milliseconds < 1_000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 10_000) return `${(milliseconds / 1_000).toFixed(1)} s`;
  return long(milliseconds / 1_000);
}

/** `18 204`. */
export const number = (value: number) => value.toLocaleString('en').replaceAll(',', '\u202f');

/** `1 change`, `3 changes`. */
export const count = (many: number, one: string, more = `${one}s`) => `${number(many)} ${many === 1 ? one : more}`;
