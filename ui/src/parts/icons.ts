// Drawn on a grid of 20 with a stroke of 1.6. The seven states have the silhouettes of the tray: triangle, slashed link, hollow with ?,
// two bars, two arrows, dotted ring, check.

import type { HistoryOutcome, QueueState, State } from '../lib/bindings';

type Shape = { d: string; fill?: boolean; dash?: string };

const states: Record<State, Shape[]> = {
  'needs-attention': [{ d: 'M8.6 3.2a1.6 1.6 0 0 1 2.8 0l6.4 11.2a1.6 1.6 0 0 1-1.4 2.4H3.6a1.6 1.6 0 0 1-1.4-2.4ZM10 7.6v4.2M10 14v.1' }],
  'cannot-reach': [
    { d: 'M8.6 11.4 5.9 14.1a2.9 2.9 0 0 1-4-4l2.6-2.7a2.9 2.9 0 0 1 3.4-.5M11.4 8.6l2.7-2.7a2.9 2.9 0 0 1 4 4l-2.6 2.7a2.9 2.9 0 0 1-3.4.5' },
    { d: 'M3.4 3.4 16.6 16.6' },
  ],
  'no-news': [{ d: 'M10 2.4a7.6 7.6 0 1 0 0 15.2 7.6 7.6 0 0 0 0-15.2Z' }, { d: 'M7.9 8a2.1 2.1 0 1 1 3.1 1.8c-.7.4-1 .8-1 1.7M10 14v.1' }],
  paused: [{ d: 'M5 3.4h3.2v13.2H5ZM11.8 3.4H15v13.2h-3.2Z', fill: true }],
  working: [{ d: 'M2.6 7.2h13.6M12.6 3.4l3.8 3.8-3.8 3.8M17.4 12.8H3.8M7.4 9l-3.8 3.8 3.8 3.8' }],
  starting: [{ d: 'M10 2.8a7.2 7.2 0 1 0 0 14.4 7.2 7.2 0 0 0 0-14.4Z', dash: '0.1 5.555' }],
  'up-to-date': [{ d: 'M3.2 10.6 7.8 15.2 16.8 5' }],
};

const others = {
  overview: [{ d: 'M3 3h5.6v7H3ZM11.4 3H17v4h-5.6ZM3 13h5.6v4H3ZM11.4 10H17v7h-5.6Z' }],
  queue: [{ d: 'M3 5h14M3 10h14M3 15h8' }],
  conflicts: [{ d: 'M10 3v4.5M10 7.5 4.6 13v4M10 7.5l5.4 5.5v4M2.6 15l2 2 2-2M13.4 15l2 2 2-2' }],
  watching: [{ d: 'M2.6 6h3.6l1.4-2.2h4.8L13.8 6h3.6v10.4H2.6ZM10 8.2a2.9 2.9 0 1 0 0 5.8 2.9 2.9 0 0 0 0-5.8Z' }],
  locks: [{ d: 'M4.4 9h11.2v8H4.4ZM6.8 9V6.2a3.2 3.2 0 0 1 6.4 0V9' }],
  history: [{ d: 'M3.1 8.6A7 7 0 1 1 3 11.2M3 4.4v4.3h4.3M10 6.4V10l2.6 1.8' }],
  audit: [{ d: 'M10 2.4 16.4 5v4.6c0 3.8-2.6 6.6-6.4 8-3.8-1.4-6.4-4.2-6.4-8V5ZM7 10l2.2 2.2L13.2 8' }],
  eye: [{ d: 'M1.8 10S4.8 4.6 10 4.6 18.2 10 18.2 10 15.2 15.4 10 15.4 1.8 10 1.8 10Z' }, { d: 'M10 7.6a2.4 2.4 0 1 0 0 4.8 2.4 2.4 0 0 0 0-4.8Z' }],
  'eye-off': [
    { d: 'M7.7 5A8.6 8.6 0 0 1 10 4.6c5.2 0 8.2 5.4 8.2 5.4a14 14 0 0 1-2.1 2.7M12.6 14.9a8 8 0 0 1-2.6.5C4.8 15.4 1.8 10 1.8 10a14 14 0 0 1 3.5-3.9M8.3 8.3a2.4 2.4 0 0 0 3.4 3.4' },
    { d: 'M3 3l14 14' },
  ],
  sync: [{ d: 'M16.6 8A7 7 0 0 0 4.2 6.2L3 7.6M3 3.6v4h4M3.4 12a7 7 0 0 0 12.4 1.8l1.2-1.4M17 16.4v-4h-4' }],
  search: [{ d: 'M8.8 3.2a5.6 5.6 0 1 0 0 11.2 5.6 5.6 0 0 0 0-11.2ZM13 13l4 4' }],
  close: [{ d: 'M4.6 4.6l10.8 10.8M15.4 4.6 4.6 15.4' }],
  down: [{ d: 'M5 7.6 10 12.6 15 7.6' }],
  right: [{ d: 'M7.6 5 12.6 10 7.6 15' }],
  out: [{ d: 'M3 10h13M11.4 5.2 16.2 10l-4.8 4.8' }],
  back: [{ d: 'M17 10H4M8.6 5.2 3.8 10l4.8 4.8' }],
  in: [{ d: 'M10 3a3.4 3.4 0 1 0 0 6.8A3.4 3.4 0 0 0 10 3ZM3.4 17a6.6 6.6 0 0 1 13.2 0' }],
  help: [{ d: 'M10 2.4a7.6 7.6 0 1 0 0 15.2 7.6 7.6 0 0 0 0-15.2Z' }, { d: 'M7.9 8a2.1 2.1 0 1 1 3.1 1.8c-.7.4-1 .8-1 1.7M10 14v.1' }],
  copy: [{ d: 'M7 7h10v10H7ZM4.6 13H3V3h10v1.6' }],
  folder: [{ d: 'M2.6 4.6h5l1.8 2h8v9.6H2.6Z' }],
  aside: [{ d: 'M3 4.4h14v3.2H3ZM4.2 7.6v8h11.6v-8M8 10.8h4' }],
  wait: [{ d: 'M10 2.6a7.4 7.4 0 1 0 0 14.8 7.4 7.4 0 0 0 0-14.8ZM10 6v4l2.8 1.8' }],
  open: [{ d: 'M4 3h12v14H4ZM7 7h6M7 10h6M7 13h3' }],
  again: [{ d: 'M15.8 6.4A7 7 0 1 0 17 10M17 3v4h-4' }],
  bad: [{ d: 'M10 2.4a7.6 7.6 0 1 0 0 15.2 7.6 7.6 0 0 0 0-15.2Z' }, { d: 'M7.2 7.2l5.6 5.6M12.8 7.2l-5.6 5.6' }],
  info: [{ d: 'M10 2.4a7.6 7.6 0 1 0 0 15.2 7.6 7.6 0 0 0 0-15.2Z' }, { d: 'M10 9v5M10 6v.1' }],
} satisfies Record<string, Shape[]>;

export type IconName = State | keyof typeof others;

export const shapes: Record<IconName, Shape[]> = { ...states, ...others };

/** The word beside the shape; a state is never told by its colour or shape alone. */
export const WORDS: Record<State, string> = {
  'needs-attention': 'Needs attention',
  'cannot-reach': "Can't reach",
  'no-news': 'No news',
  paused: 'Paused',
  working: 'Syncing',
  starting: 'Starting',
  'up-to-date': 'Up to date',
};

export type Tone = 'ok' | 'warn' | 'bad' | 'info' | 'plain';

export const TONES: Record<State, Tone> = {
  'needs-attention': 'bad',
  'cannot-reach': 'warn',
  'no-news': 'warn',
  paused: 'info',
  working: 'info',
  starting: 'plain',
  'up-to-date': 'ok',
};

type Look = { icon: IconName; tone: Tone };
type Outcome = Look & { word: string };

export const QUEUE: Record<QueueState, Look> = {
  'needs-attention': { icon: 'needs-attention', tone: 'bad' },
  'waiting-for-record': { icon: 'open', tone: 'warn' },
  'trying-again': { icon: 'again', tone: 'warn' },
  'in-progress': { icon: 'working', tone: 'info' },
  waiting: { icon: 'wait', tone: 'plain' },
  'set-aside': { icon: 'aside', tone: 'plain' },
};

/** Short, for a column; the whole of it is in the drawer. */
export const OUTCOME: Record<HistoryOutcome, Outcome> = {
  done: { icon: 'up-to-date', tone: 'ok', word: 'Done' },
  refused: { icon: 'bad', tone: 'bad', word: 'Refused' },
  unknown: { icon: 'no-news', tone: 'warn', word: 'Not known' },
  interrupted: { icon: 'cannot-reach', tone: 'warn', word: 'Interrupted' },
  open: { icon: 'working', tone: 'info', word: 'Under way' },
};
