// The only import of the platform: one function for each command, one for each event.

import { invoke } from '@tauri-apps/api/core';
import { listen, type UnlistenFn } from '@tauri-apps/api/event';
import type {
  AsideReason,
  Audit,
  AuditQuery,
  Chain,
  Chosen,
  Conflicts,
  Day,
  Desk,
  FieldValues,
  History,
  HistoryQuery,
  Locks,
  Opening,
  PauseFor,
  Problem,
  Queue,
  Redrive,
  Resyncing,
  Revealed,
  Settled,
  Sides,
  Watching,
} from './bindings';

export const opening = () => invoke<Opening>('opening');
export const desk = () => invoke<Desk | null>('desk');
export const day = () => invoke<Day>('day');
export const queue = () => invoke<Queue>('queue');
export const conflicts = () => invoke<Conflicts>('conflicts');
/** Values of both sides, read live; recorded. */
export const sides = (key: string) => invoke<Sides>('sides', { key });
/** The same token again does nothing, as with `retry`. */
export const settle = (key: string, chosen: Chosen[], token: string) => invoke<Settled[]>('settle', { key, chosen, token });
export const values = (entry: number) => invoke<FieldValues[]>('values', { entry });
export const resyncing = (key: string, whole: boolean) => invoke<Resyncing[]>('resyncing', { key, whole });
export const resync = (key: string, whole: boolean, token: string) => invoke<void>('resync', { key, whole, token });
/** Visits and documents of the EHRs, and how far their lists are complete. */
export const watching = () => invoke<Watching>('watching');
export const locks = () => invoke<Locks>('locks');
export const history = (query: HistoryQuery) => invoke<History>('history', { query });
export const audit = (query: AuditQuery) => invoke<Audit>('audit', { query });
export const verifyAudit = () => invoke<Chain>('verify_audit');
export const syncNow = () => invoke<void>('sync_now');
export const pause = (length: PauseFor) => invoke<void>('pause', { length });
export const resume = () => invoke<void>('resume');
/** The same token again does nothing: Enter twice is one retry. */
export const retry = (keys: string[], token: string) => invoke<void>('retry', { keys, token });
/** What trying again everything that is dead would be, or what died for one reason. */
export const redrivePlan = (reason: string | null) => invoke<Redrive>('redrive_plan', { reason });
/** Does what was last shown; asked again it does nothing. */
export const redrive = () => invoke<void>('redrive');
export const setAside = (keys: string[], reason: AsideReason) => invoke<void>('set_aside', { keys, reason });
export const putBack = (keys: string[]) => invoke<void>('put_back', { keys });
export const dropLetters = (keys: string[]) => invoke<void>('drop_letters', { keys });
export const reveal = (keys: string[]) => invoke<Revealed[]>('reveal', { keys });
export const setPrivacy = (on: boolean) => invoke<void>('set_privacy', { on });
export const lock = () => invoke<void>('lock');
export const unlock = (pin: string) => invoke<boolean>('unlock', { pin });
/** Somebody pressed a key or moved the mouse: puts the lock off. */
export const active = () => invoke<void>('active');
export const summary = () => invoke<string>('summary');
export const openLogs = () => invoke<void>('open_logs');
export const openDemo = () => invoke<void>('open_demo');

export const onDesk = (then: (desk: Desk) => void): Promise<UnlistenFn> => listen<Desk>('desk', (e) => then(e.payload));
export const onGo = (then: (view: string) => void): Promise<UnlistenFn> => listen<string>('go', (e) => then(e.payload));
export const onLocked = (then: () => void): Promise<UnlistenFn> => listen('locked', () => then());

/** What a command refuses with is a Problem; anything else is told as plainly as it can be. */
export function asProblem(thrown: unknown): Problem {
  if (typeof thrown === 'object' && thrown !== null && 'sentence' in thrown && typeof thrown.sentence === 'string') {
    return { sentence: thrown.sentence, code: 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : null };
  }
  return {
    sentence: 'The window got no proper answer from the sync. Nothing was lost. Close the window and open it again.',
    code: null,
  };
}
