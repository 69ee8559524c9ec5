// Visits and documents of synthetic EHRs: made up, like all in here.

import type { RecordName, WatchedClinic, WatchGroup, Watching, WatchRow } from '../lib/bindings';
import { record } from './rows';

const WORST = ['trouble', 'away', 'paused', 'waiting', 'elsewhere', 'starting', 'watching'];
const NAMES = ['Synthetic North', 'Synthetic Harbour', 'Synthetic Hill', 'Synthetic Mill', 'Synthetic Park'];

export function watching(now: number, clinics: number, empty: boolean): Watching {
  const at = (seconds: number) => new Date(now + seconds * 1_000).toISOString();
  const details = (code: string) => [{ name: 'Code', value: code }, { name: 'Flavour', value: 'ema' }];
  const kinds = (lag: number, next: number) => [
    { what: 'Visits', complete: at(-lag), next: at(next) },
    { what: 'Photographs and notes', complete: at(-lag - 9), next: at(next + 2) },
  ];
  const states: Omit<WatchedClinic, 'name'>[] = [
    { state: 'watching', word: 'Watching', sentence: null, kinds: kinds(121, 3), details: details('none') },
    { state: 'trouble', word: 'Needs IT', sentence: 'Our sign-in was refused. Only IT can fix this; what arrives meanwhile is found afterwards.', kinds: kinds(2_400, 40), details: details('sign-in-refused') },
    { state: 'waiting', word: 'Waits for the quota', sentence: null, kinds: kinds(140, 21), details: details('throttled') },
    { state: 'away', word: "Can't be reached", sentence: 'The server cannot be reached since 10:14. What arrives meanwhile is found afterwards.', kinds: [{ what: 'Visits', complete: null, next: at(12) }], details: details('unreachable') },
    { state: 'elsewhere', word: 'Watched by exam-room-2', sentence: null, kinds: [{ what: 'Visits', complete: at(-124), next: null }], details: [] },
  ];
  const row = (group: WatchGroup, number: number, label: string, given: Partial<WatchRow>): WatchRow => {
    const name: RecordName = { ...record(number, 'Encounter'), firm: NAMES[number % Math.max(1, clinics)]!, named: false };
    const key = `synthetic-north/${group}/${number}`;
    return { record: { ...name, key, label: `${label} ${name.label.slice(-5)}` }, group, what: label, word: '', since: at(-60 * number), next: null, reason: '', details: details('none'), ...given };
  };
  const rows: WatchRow[] = empty
    ? []
    : [
        row('found', 2, 'Document', { what: 'Photograph of one spot', word: 'Waits for a model', reason: 'It waits to be read by a model.' }),
        row('found', 3, 'Document', { what: 'Photograph of a rash', word: 'Waits for a model', reason: 'It waits to be read by a model.' }),
        row('found', 5, 'Document', { what: 'Note', word: 'Waits for a model', reason: 'It waits to be read by a model.' }),
        row('visit', 7, 'Visit', { word: 'In progress', next: at(4), reason: 'Photographs usually arrive while a visit is in progress.' }),
        row('visit', 8, 'Visit', { word: 'Arrived', next: at(9), reason: 'Photographs usually arrive while a visit is in progress.' }),
        row('visit', 12, 'Visit', { word: 'Finished', next: at(212), reason: 'The visit is over; it is looked at less often until tomorrow 10:42.' }),
        row('visit', 13, 'Visit', { word: 'In progress', next: at(21), reason: 'The EHR allows no more requests just now. It goes on by itself.' }),
        row('listed', 21, 'Document', { what: 'Document', word: 'No category', reason: 'This document fits none of the categories that the clinic chose. It is listed, and nothing is done with it.' }),
        row('listed', 22, 'Document', { what: 'Document', word: 'No open visit', reason: 'This document belongs to no visit that is being watched. It is listed, and nothing is done with it.' }),
      ];
  return {
    clinics: Array.from({ length: clinics }, (_, index) => ({ ...states[index < 5 ? index : 0]!, name: NAMES[index] ?? `Synthetic ${index + 1}` })).toSorted(
      (a, b) => WORST.indexOf(a.state) - WORST.indexOf(b.state),
    ),
    quotas: [
      { name: 'modmed', used: 612, limit: 750, sentence: 'of 750 requests in the last 60 s, by this station and another', waits: clinics > 2 ? 'The EHR asked for silence until 10:42:31. It goes on by itself.' : null, details: [{ name: 'Published limit', value: '1250 a minute' }] },
    ],
    rows,
    more: 0,
  };
}
