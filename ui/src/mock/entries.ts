// The synthetic clinic's history and audit log.

import type { AuditRow, HistoryOutcome, HistoryRow } from '../lib/bindings';
import { record } from './rows';

const KINDS = ['Patient', 'Intake form', 'Measurement', 'Patient', 'Progress note'];
const FIELDS = [['phone', 'email', 'street'], ['allergies', 'medication'], ['systolic', 'diastolic', 'taken at'], ['family name'], ['text', 'written by']];
const WORDS: Record<HistoryOutcome, string> = {
  done: 'Done',
  refused: 'Refused: FileMaker did not accept a value. Please correct it in the portal.',
  unknown: 'Not known: A write got no answer. We look whether it happened before doing anything else.',
  interrupted: 'The program ended in between; the next look settles it.',
  open: 'Not finished yet',
};

const SAID: Record<HistoryOutcome, string> = {
  done: 'Sent to FileMaker',
  refused: 'Not sent to FileMaker',
  unknown: 'Perhaps sent to FileMaker',
  interrupted: 'Perhaps sent to FileMaker',
  open: 'Is being sent to FileMaker',
};

const outcome = (index: number): HistoryOutcome => (index === 0 ? 'open' : index % 17 === 5 ? 'refused' : index % 29 === 11 ? 'unknown' : index === 23 ? 'interrupted' : 'done');

export function historyRows(now: number): HistoryRow[] {
  return Array.from({ length: 130 }, (_, index) => {
    const kind = index % KINDS.length;
    const here = index % 9 === 4;
    const is = outcome(index);
    const toChart = !here && index % 5 === 3;
    const how = index % 4 === 1 ? `new record with ${FIELDS[kind]!.length} fields` : FIELDS[kind]!.length === 1 ? '1 field' : `${FIELDS[kind]!.length} fields`;
    return {
      entry: 18_204 - index,
      at: new Date(now - (40 + index * 700 + (index % 7) * 90) * 1_000).toISOString(),
      direction: here ? ('here' as const) : toChart ? ('to-chart' as const) : ('to-file-maker' as const),
      sentence: here ? 'Tried again by a person' : `${toChart ? SAID[is].replace('FileMaker', 'the chart') : SAID[is]}: ${how}`,
      record: record(4 + ((index * 7) % 41), KINDS[kind]!),
      what: KINDS[kind]!,
      outcome: is,
      outcome_word: WORDS[is],
      fields: here ? [] : FIELDS[kind]!,
      person: here ? 'maria' : null,
      station: 'This PC',
      details: [
        { name: 'entry', value: String(18_204 - index) },
        { name: 'epoch', value: '12' },
      ],
    };
  });
}

export function auditRows(now: number, empty: boolean): AuditRow[] {
  const started: AuditRow = {
    entry: 1,
    at: new Date(now - 180_000 * 1_000).toISOString(),
    who: 'Chart Relay',
    act: 'started',
    word: 'Program started',
    record: null,
    outcome: 'done',
    outcome_word: 'Done',
    about: [],
    station: 'desk-1',
  };
  if (empty) return [{ ...started, at: new Date(now - 40_000).toISOString() }];
  const acts = [
    ['row-edited', 'Row edited', 'Chart Relay', ['phone', 'email']],
    ['revealed', 'Name revealed', 'maria', []],
    ['row-created', 'Row created', 'Chart Relay', ['allergies', 'medication', 'smoker', 'pharmacy', 'referred by']],
    ['row-edited', 'Row edited', 'Chart Relay', ['family name']],
    ['retried', 'Tried again', 'maria', []],
    ['paused', 'Sync paused', 'jonas', ['until 14:30']],
    ['set-aside', 'Set aside', 'maria', ['entered by hand']],
  ] as const;
  const rows = Array.from({ length: 120 }, (_, index): AuditRow => {
    const [act, word, who, about] = acts[index % acts.length]!;
    const is = act.startsWith('row') ? outcome(index) : 'done';
    return {
      entry: 18_204 - index,
      at: new Date(now - (40 + index * 520) * 1_000).toISOString(),
      who,
      act,
      word,
      record: act === 'paused' ? null : record(4 + ((index * 7) % 41), KINDS[index % KINDS.length]!),
      outcome: is,
      outcome_word: WORDS[is],
      about: [...about],
      station: index % 6 === 3 ? 'desk-2' : 'desk-1',
    };
  });
  return [...rows, started];
}
