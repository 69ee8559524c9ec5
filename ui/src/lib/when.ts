// The choices of time that History and Audit share.

export type When = 'any' | 'hour' | 'today' | 'week';

export const WHENS: Record<When, string> = { any: 'Any time', hour: 'Last hour', today: 'Today', week: 'Last 7 days' };

export const isWhen = (name: string | null): name is When => name !== null && name in WHENS;

export function since(when: When, now: number): string | null {
  if (when === 'any') return null;
  if (when === 'today') return new Date(new Date(now).setHours(0, 0, 0, 0)).toISOString();
  return new Date(now - (when === 'hour' ? 3_600_000 : 7 * 86_400_000)).toISOString();
}
