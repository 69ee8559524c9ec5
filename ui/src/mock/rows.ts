// What the synthetic clinic shows: made up from the first line to the last.

import type { Bin, Card, Cause, Day, Detail, Lock, Overview, PauseFor, QueueRow, QueueState, RecordName, Right, Role, State, Station } from '../lib/bindings';

const FIRM = 'Synthetic North';
const at = (now: number, secondsAgo: number) => new Date(now - secondsAgo * 1_000).toISOString();

/** The same pseudonym for the same number, as five signs that tell nothing. */
export function record(number: number, kind = 'Patient'): RecordName {
  let rest = (0x1abcde + number * 0x9e37_79b1) >>> 0;
  const signs = Array.from({ length: 5 }, () => {
    const sign = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'[rest % 32];
    rest >>>= 5;
    return sign;
  });
  return { key: `synthetic-north/${kind}/${number}`, label: `Patient ${signs.join('')}`, firm: FIRM, named: true };
}

const RIGHTS: Record<Role, Right[]> = {
  'front-desk': ['sync-now', 'pause', 'mend', 'reveal'],
  manager: ['sync-now', 'pause', 'mend', 'mend-many', 'drop', 'reveal', 'verify-audit'],
  clinician: ['sync-now', 'reveal'],
  it: ['sync-now', 'pause', 'mend', 'mend-many', 'drop', 'details', 'verify-audit'],
};

const PAUSES: Record<Role, PauseFor[]> = {
  'front-desk': ['quarter-hour', 'hour'],
  manager: ['quarter-hour', 'hour', 'closing'],
  clinician: [],
  it: ['quarter-hour', 'hour', 'closing'],
};

export const station = (role: Role, privacy: boolean, pin: boolean, demo: boolean): Station => ({
  name: 'desk-1',
  person: 'maria',
  role,
  rights: RIGHTS[role],
  pauses: PAUSES[role],
  privacy,
  lock_after_minutes: 5,
  pin,
  demo,
  tray: true,
});

const details = (code: string, number: number): Detail[] => [
  { name: 'code', value: code },
  { name: 'key', value: `synthetic-north/Patient/synthetic-patient-${String(number).padStart(4, '0')}` },
  { name: 'epoch', value: '12' },
  { name: 'station', value: 'desk-1, boot 7f3a' },
];

export function card(now: number, state: State, attention: number, conflicts: number): Card {
  const choose: Cause = { state: 'needs-attention', sentence: `Both sides changed ${conflicts === 1 ? '1 record' : `${conflicts} records`}. Please choose.`, go: 'conflicts', details: [] };
  const attend: Cause = {
    state: 'needs-attention',
    sentence: attention === 1 ? '1 item needs attention.' : `${attention} items need attention.`,
    go: 'queue-attention',
    details: [{ name: 'code', value: 'rejected' }],
  };
  const away: Cause = {
    state: 'cannot-reach',
    sentence: "Can't reach FileMaker since 10:14. Changes are kept.",
    go: 'queue-waiting',
    details: [{ name: 'code', value: 'unreachable' }],
  };
  const pause: Cause = { state: 'paused', sentence: 'Paused until 13:42 (maria). What waits is kept.', go: 'resume', details: [] };
  const texts: Record<State, [string, Cause[]]> = {
    'needs-attention': [attend.sentence.slice(0, -1), [attend, away, { state: 'needs-attention', sentence: '1 record is held by a station that gives no sign of life. Nothing is lost.', go: 'locks-overdue', details: [] }]],
    'cannot-reach': [away.sentence, [away]],
    'no-news': ['No news from the sync for 4 min', [{ state: 'no-news', sentence: 'No news from the sync for 4 min.', go: null, details: [] }]],
    paused: ['Paused until 13:42 (maria)', [pause]],
    working: ['Syncing 3 changes', []],
    starting: ['Starting...', []],
    'up-to-date': ['Up to date, checked at 10:42', []],
  };
  if (conflicts > 0 && state === 'up-to-date') return { state: 'needs-attention', sentence: choose.sentence, at: at(now, 12), causes: [choose] };
  const [sentence, rest] = texts[state];
  const causes = conflicts > 0 ? [choose, ...rest] : rest;
  return { state, sentence, at: at(now, 12), causes };
}

export function overview(now: number, state: State, empty: boolean, rows: QueueRow[], sent: number, attention: number): Overview {
  const away = state === 'cannot-reach' || state === 'needs-attention';
  const waiting = rows.filter((row) => row.state !== 'needs-attention' && row.state !== 'set-aside');
  return {
    connections: [
      {
        firm: FIRM,
        name: 'FileMaker',
        good: !away,
        sentence: away ? 'away since 10:14: The server cannot be reached. Changes are kept.' : 'answers',
        details: [{ name: 'code', value: away ? 'unreachable' : 'none' }],
      },
      { firm: FIRM, name: 'Chart system', good: true, sentence: 'answers', details: [] },
    ],
    known: true,
    waiting: waiting.length,
    oldest_seconds: waiting.length === 0 ? null : Math.max(...waiting.map((row) => (now - Date.parse(row.since)) / 1_000)),
    target_seconds: 120,
    sent_today: sent,
    attention,
    stations: [
      { name: 'This PC (front-desk)', good: true, sentence: 'takes part', details: [] },
      { name: 'exam-room-2', good: true, sentence: 'seen 40 s ago', details: [{ name: 'Version', value: '0.1.0' }] },
      { name: 'server', good: false, sentence: 'ended (by its own clock at 18:02)', details: [{ name: 'Version', value: '0.1.0' }] },
    ],
    recent: empty
      ? []
      : [
          [38, 'Sent to FileMaker: 3 fields', record(4)],
          [71, 'Sent to FileMaker: new record with 14 fields', record(9, 'Intake form')],
          [140, 'Merged into the change of 10:39', record(4)],
          [205, 'Sent to FileMaker: 1 field', record(12)],
          [320, 'Someone has this record open in FileMaker. We try again every 2 min.', record(17)],
          [404, 'Sent to FileMaker: new record with 6 fields', record(21, 'Measurement')],
          [512, 'Sent to FileMaker: 2 fields', record(22)],
          [640, 'Duplicate, ignored', record(22)],
          [811, 'Sent to FileMaker: new record with 9 fields', record(25, 'Progress note')],
          [1_230, 'Sent to FileMaker: 1 field', record(28)],
        ].map(([ago, sentence, record]) => ({ at: at(now, ago as number), sentence: sentence as string, record: record as RecordName })),
  };
}

/** Calm noise that is the same each time. */
const wave = (index: number) => (Math.sin(index * 1.7) + Math.sin(index * 0.61) + 2) / 4;

export function day(now: number, state: State, empty: boolean): Day {
  const from = Math.floor(now / 900_000) * 900_000 - 95 * 900_000;
  const bins = Array.from({ length: 96 }, (_, index): Bin => {
    const start = from + index * 900_000;
    const hour = new Date(start).getHours();
    const closed = hour < 7 || hour >= 18;
    let is: State | null = closed && hour < 5 ? null : 'up-to-date';
    if (!closed && index % 13 === 4) is = 'working';
    if (index > 6 && index < 10) is = 'cannot-reach';
    if (index === 20 || index === 21) is = 'paused';
    if (index >= 94 && state !== 'up-to-date') is = state;
    const sent = closed || is === 'cannot-reach' || is === 'paused' || is === null ? 0 : Math.round(2 + 9 * wave(index));
    const p50 = sent === 0 ? null : 900 + 2_400 * wave(index + 3);
    return {
      from: new Date(start).toISOString(),
      state: empty ? (index > 90 ? 'up-to-date' : null) : is,
      sent: empty ? 0 : sent,
      failed: !empty && (index === 9 || index === 88) ? 2 : 0,
      p50_ms: empty ? null : p50,
      p95_ms: empty || p50 === null ? null : index === 10 ? 720_000 : p50 * (3 + 9 * wave(index * 2)),
    };
  });
  return { from: new Date(from).toISOString(), bins, target_seconds: 120, last_sent: empty ? at(now, 58_400) : null };
}

export const QUEUE_WORDS: { state: QueueState; word: string }[] = [
  { state: 'needs-attention', word: 'Needs attention' },
  { state: 'waiting-for-record', word: 'Waiting for record' },
  { state: 'trying-again', word: 'Trying again' },
  { state: 'in-progress', word: 'In progress' },
  { state: 'waiting', word: 'Waiting' },
  { state: 'set-aside', word: 'Set aside' },
];

export function queueRows(now: number, state: State, many: number): QueueRow[] {
  const row = (number: number, given: Partial<QueueRow> & { state: QueueState; ago: number; kind?: string }): QueueRow => {
    const { ago, kind = 'Patient', ...rest } = given;
    const stuck = given.state === 'needs-attention';
    return {
      record: record(number, kind),
      letter: false,
      word: QUEUE_WORDS.find((entry) => entry.state === given.state)!.word,
      what: `${kind} to FileMaker`,
      since: at(now, ago),
      tries: 0,
      next: null,
      reason: null,
      code: null,
      can_retry: stuck || given.state === 'trying-again' || given.state === 'waiting-for-record',
      can_set_aside: given.state !== 'in-progress' && given.state !== 'set-aside',
      can_put_back: given.state === 'set-aside',
      can_drop: false,
      details: details(given.code ?? 'none', number),
      ...rest,
    };
  };
  const rejected = { reason: 'FileMaker did not accept: Date of birth. Please correct it in the chart system; it is then sent by itself.', code: 'rejected' };
  const refused = { reason: 'FileMaker refused our sign-in. Only IT can fix this; changes wait here.', code: 'sign-in-refused' };
  const needy: QueueRow[] =
    state === 'needs-attention'
      ? [
          row(31, { state: 'needs-attention', ago: 5_700, tries: 8, ...rejected }),
          row(33, { state: 'needs-attention', ago: 4_900, tries: 8, kind: 'Intake form', ...rejected }),
          row(35, { state: 'needs-attention', ago: 3_100, tries: 8, ...refused }),
          row(36, { state: 'needs-attention', ago: 2_800, tries: 8, kind: 'Measurement', ...refused }),
          row(38, { state: 'needs-attention', ago: 2_700, tries: 8, kind: 'Measurement', ...refused }),
          row(41, { state: 'needs-attention', ago: 2_400, tries: 8, kind: 'Progress note', ...refused }),
          {
            ...row(0, { state: 'needs-attention', ago: 1_900, tries: 1, reason: 'This message cannot be read. It names no record; nothing of the chart is lost by dropping it.', code: 'unreadable' }),
            record: { key: 'letter-17', label: 'Unreadable message', firm: '', named: false },
            letter: true,
            what: 'Unreadable message',
            can_retry: false,
            can_set_aside: false,
            can_drop: true,
          },
        ]
      : [];
  const lazy = Array.from({ length: many }, (_, index) => row(100 + index, { state: 'waiting', ago: 30 + index, kind: index % 3 ? 'Measurement' : 'Patient' }));
  const away = state === 'cannot-reach';
  return [
    ...needy,
    ...(state === 'up-to-date' ? [] : [row(17, { state: 'waiting-for-record', word: 'Waiting for record (open in FileMaker)', ago: 320, tries: 3, next: at(now, -74), reason: 'Someone has this record open in FileMaker. We try again every 2 min.', code: 'record-locked' })]),
    row(19, { state: 'trying-again', word: 'Trying again (3 of 8)', ago: 58, tries: 3, next: at(now, -22), reason: 'The server took too long. We try again.', code: 'timed-out', kind: 'Intake form' }),
    row(24, { state: 'in-progress', ago: 6, kind: 'Measurement' }),
    row(26, { state: 'waiting', ago: 4, ...(away ? { reason: 'FileMaker cannot be reached. It goes on by itself.', code: 'unreachable' } : {}) }),
    row(27, { state: 'waiting', ago: 2, kind: 'Progress note' }),
    ...lazy,
    row(52, { state: 'set-aside', ago: 93_000, tries: 8, reason: 'Set aside by maria: entered by hand.', code: 'rejected', kind: 'Intake form' }),
  ];
}

export function lockRows(now: number, state: State): Lock[] {
  const lock = (number: number, given: Partial<Lock> & Pick<Lock, 'group' | 'holder' | 'what' | 'sentence'>, ago: number | null, kind?: string): Lock => ({
    record: record(number, kind),
    since: ago === null ? null : at(now, ago),
    term_seconds: null,
    behind: null,
    details: details('lease', number),
    ...given,
  });
  return [
    ...(state === 'needs-attention'
      ? [
          lock(61, { group: 'overdue', holder: 'Station desk-2', what: 'Patient to FileMaker', term_seconds: 30, behind: 'Another change waits behind it.', sentence: 'Nobody has renewed it for its whole term. It is taken over by itself; if it stays here, tell IT.' }, null),
        ]
      : []),
    lock(24, { group: 'active', holder: 'This PC', what: 'Measurement to FileMaker', term_seconds: 30, sentence: 'Is being worked on. Without a sign of life it is free after 30 s.' }, 6, 'Measurement'),
    lock(70, { group: 'active', holder: 'This PC', what: 'Patient to FileMaker', term_seconds: 30, behind: 'Another change waits behind it.', sentence: 'Is being worked on. Without a sign of life it is free after 30 s.' }, null),
    lock(71, { group: 'active', holder: 'This PC', what: 'Reads the chart system (Measurement)', term_seconds: 30, sentence: 'Is being worked on. Without a sign of life it is free after 30 s.' }, null, 'Measurement'),
    lock(17, { group: 'in-file-maker', holder: 'Someone in FileMaker', what: 'Patient to FileMaker', sentence: 'Close the record in FileMaker; the change then follows within 2 min.', behind: 'Another change waits behind it.' }, 320),
  ];
}

