// The last 24 hours in quarters of an hour: what the strip, the curve and their table have in common.

import type { Bin, Day, State } from '../lib/bindings';
import { count, span, time } from '../lib/format';
import { WORDS } from './icons';

export const QUARTER = 15 * 60_000;

export type Stretch = { state: State | null; from: number; until: number; sent: number; failed: number };

export const word = (state: State | null) => (state === null ? 'No data' : WORDS[state]);

/** Quarters of one state that follow each other are one stretch. */
export function stretches(bins: Bin[]): Stretch[] {
  const found: Stretch[] = [];
  for (const bin of bins) {
    const from = Date.parse(bin.from);
    const last = found.at(-1);
    if (last && last.state === bin.state && last.until === from) {
      last.until = from + QUARTER;
      last.sent += bin.sent;
      last.failed += bin.failed;
    } else {
      found.push({ state: bin.state, from, until: from + QUARTER, sent: bin.sent, failed: bin.failed });
    }
  }
  return found;
}

export function tell(stretch: Stretch): string {
  const failed = stretch.failed > 0 ? `, ${count(stretch.failed, 'item')} came to need attention` : '';
  return `${time(stretch.from)} to ${time(stretch.until)}: ${word(stretch.state)}, ${count(stretch.sent, 'change')} sent${failed}`;
}

/** One sentence for those who do not see the strip. */
export function summary(day: Day): string {
  const sent = day.bins.reduce((sum, bin) => sum + bin.sent, 0);
  const failed = day.bins.reduce((sum, bin) => sum + bin.failed, 0);
  const away = day.bins.filter((bin) => bin.state === 'cannot-reach').length;
  const parts = [`${count(sent, 'change')} sent`];
  if (failed > 0) parts.push(`${count(failed, 'item')} came to need attention`);
  if (away > 0) parts.push(`about ${span(away * QUARTER)} without a connection`);
  return `Last 24 hours: ${parts.join(', ')}.`;
}

/** The whole hours at which the axis is labelled. */
export function hours(from: number, until: number, every = 4): number[] {
  const found: number[] = [];
  const at = new Date(from);
  at.setMinutes(0, 0, 0);
  while (at.getTime() < from || at.getHours() % every !== 0) at.setHours(at.getHours() + 1);
  while (at.getTime() < until) {
    found.push(at.getTime());
    at.setHours(at.getHours() + every);
  }
  return found;
}
