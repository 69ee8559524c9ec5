// The synthetic clinic's conflicts, and what both sides say: nobody lives there.

import type { Chosen, ConflictRow, FieldSides, FieldValues, HistoryRow, RecordName, Resyncing, Settled, Sides } from '../lib/bindings';
import { record } from './rows';

type Field = { field: string; chart: string | null; filemaker: string | null; open: boolean; decidable?: boolean };
export type Torn = { row: ConflictRow; fields: Field[] };

const KINDS: [string, Field[]][] = [
  [
    'Patient',
    [
      { field: 'Street', chart: 'SYNTHETIC 12 Specimen Street', filemaker: 'SYNTHETIC 21 Specimen Street, second floor', open: true },
      { field: 'PhoneMobile', chart: '+1 555 0100', filemaker: '', open: true },
      { field: 'City', chart: 'Dummytown', filemaker: 'Dummytown', open: false },
      { field: 'FamilyName', chart: 'Testfall', filemaker: 'Testfall', open: false },
    ],
  ],
  ['Progress note', [{ field: 'Text', chart: 'SYNTHETIC note.\nFirst line of it.', filemaker: 'SYNTHETIC note.\nAnother first line.', open: true }]],
  ['Measurement', [{ field: 'Value', chart: '36.6', filemaker: '38.1', open: true, decidable: false }]],
];

export function torn(now: number, many: number): Torn[] {
  return Array.from({ length: many }, (_, index) => {
    const [what, fields] = KINDS[index % KINDS.length]!;
    const open = fields.filter((field) => field.open).map(({ field }) => field);
    return { row: { record: record(81 + index, what), what, fields: open, since: new Date(now - (400 + index * 9_000) * 1_000).toISOString() }, fields: fields.map((field) => ({ ...field })) };
  });
}

const seen = ({ chart, filemaker }: Field) => `seen ${chart} ${filemaker}`;

export function sides(now: number, { row, fields }: Torn): Sides {
  return {
    record: row.record,
    what: row.what,
    chart: { name: 'Chart system', at: new Date(now - 500_000).toISOString(), by: 'Dr. Specimen', sentence: '' },
    filemaker: { name: 'FileMaker', at: new Date(now - 400_000).toISOString(), by: null, sentence: 'It does not say by whom.' },
    fields: fields
      .map((field): FieldSides => ({ field: field.field, open: field.open, since: field.open ? row.since : null, chart: field.chart, filemaker: field.filemaker, seen: field.decidable === false ? null : seen(field) }))
      .toSorted((a, b) => Number(b.open) - Number(a.open)),
  };
}

/** Writes what was chosen, unless it was chosen of something else. */
export function settle(of: Torn, chosen: Chosen[]): Settled[] {
  return chosen.map((choice) => {
    const field = of.fields.find((field) => field.field === choice.field)!;
    if (choice.seen !== seen(field)) {
      return { field: choice.field, problem: { sentence: 'This changed after you saw it. Nothing was written; please look again.', code: 'moved-meanwhile' }, moved: true };
    }
    if (choice.typed?.includes('!')) {
      return { field: choice.field, problem: { sentence: 'FileMaker did not accept the value. Nothing was written; please type another one.', code: 'value-refused' }, moved: false };
    }
    const value = choice.take === 'chart' ? field.chart : choice.take === 'file-maker' ? field.filemaker : choice.typed;
    Object.assign(field, { chart: value, filemaker: value, open: false });
    of.row = { ...of.row, fields: of.row.fields.filter((name) => name !== choice.field) };
    return { field: choice.field, problem: null, moved: false };
  });
}

export const values = (row: HistoryRow): FieldValues[] =>
  row.fields.map((field, index) => ({ field, before: index === 0 ? `SYNTHETIC ${field} of yesterday` : null, after: index < 2 ? `SYNTHETIC ${field}` : null }));

export function resyncing(key: string, whole: boolean, label: RecordName): Resyncing[] {
  const line = (what: string, rest: Partial<Resyncing>): Resyncing => ({ record: { ...label, key: `${key}/${what}` }, what, to_filemaker: [], to_chart: [], open: [], sentence: null, ...rest });
  const first = line('Patient', { to_filemaker: ['PhoneMobile', 'City'], to_chart: ['Street'] });
  if (!whole) return [first];
  return [first, line('Intake form', { sentence: 'Nothing would be written.' }), line('Progress note', { open: ['Text'] }), line('Measurement', { sentence: 'It is not in FileMaker.' })];
}
