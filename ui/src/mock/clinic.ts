// A synthetic clinic behind the window, for a browser and for the tests. Everything in here is made up.
//
// The address chooses what is seen: ?state=cannot-reach, ?empty, ?silent, ?locked, ?pin=1234, ?role=it, ?opening=welcome, ?privacy=off,
// ?conflicts=3, ?ehr=3 (clinics whose EHR is watched), ?many=400, ?slow=1000, ?refuse=retry.

import { emit } from '@tauri-apps/api/event';
import { mockIPC, mockWindows } from '@tauri-apps/api/mocks';
import type { AsideReason, AuditQuery, Chosen, Desk, HistoryQuery, Opening, PauseFor, Problem, QueueRow, Redrive, Role, State } from '../lib/bindings';
import { resyncing, settle, sides, torn, values } from './conflicts';
import { auditRows, historyRows } from './entries';
import { watching } from './watching';
import { card, day, lockRows, overview, queueRows, station, QUEUE_WORDS } from './rows';

type Call = { command: string; arguments: Record<string, unknown> };

class Clinic {
  readonly calls: Call[] = [];
  readonly options = new URLSearchParams(location.search);
  readonly now = Date.now();
  empty = this.options.has('empty');
  state = (this.options.get('state') ?? 'up-to-date') as State;
  role = (this.options.get('role') ?? 'manager') as Role;
  pin = this.options.get('pin');
  locked = this.options.has('locked');
  privacy = this.options.get('privacy') !== 'off';
  silent = this.options.has('silent');
  revision = 1;
  running: string | null = null;
  last: string | null = this.empty ? null : 'Manual sync 10:31: 3 sent, 0 failed.';
  pausedUntil: number | null = this.state === 'paused' ? this.now + 3 * 3_600_000 : null;
  rows = this.empty ? [] : queueRows(this.now, this.state, Number(this.options.get('many') ?? 0));
  locks = this.empty ? [] : lockRows(this.now, this.state);
  history = this.empty ? [] : historyRows(this.now);
  conflicts = this.empty ? [] : torn(this.now, Number(this.options.get('conflicts') ?? 0));
  audit = auditRows(this.now, this.empty);
  tokens = new Set<string>();
  plan: QueueRow[] = [];
  sent = this.empty ? 0 : 214;

  desk(): Desk {
    const waiting = this.rows.filter((row) => row.state !== 'needs-attention' && row.state !== 'set-aside').length;
    const conflicts = this.conflicts.length;
    const attention = this.rows.filter((row) => row.state === 'needs-attention').length + conflicts;
    const pausing = this.pausedUntil !== null;
    return {
      revision: this.revision,
      live: this.silent
        ? { is: 'silent', since: new Date(this.now - 4 * 60_000).toISOString(), sentence: 'Not live: the sync does not answer. What you see is from 10:38.' }
        : { is: 'live' },
      station: station(this.role, this.privacy, this.pin !== null, this.options.get('demo') !== 'off'),
      card: card(this.now, this.state, attention, conflicts),
      sync: { can: !this.silent, running: this.running, last: this.last },
      pause: pausing ? { until: new Date(this.pausedUntil!).toISOString(), sentence: 'Paused until 13:42 (maria)' } : null,
      overview: overview(this.now, this.state, this.empty, this.rows, this.sent, attention),
      waiting,
      attention,
      conflicts,
      watches: this.options.has('ehr'),
    };
  }

  /** Tells the window that something is different. */
  async push() {
    this.revision += 1;
    if (!this.locked) await emit('desk', this.desk());
  }

  /** A row that was not there; for the tests. */
  async arrive(key: string) {
    const [like] = queueRows(this.now, 'up-to-date', 0).filter((row) => row.state === 'waiting');
    this.rows = [{ ...like!, record: { key, label: 'Patient 0NE00', firm: 'Synthetic North', named: true }, state: 'needs-attention', word: 'Needs attention' }, ...this.rows];
    await this.push();
  }

  /** Somebody changes a field in FileMaker while a person looks at it; for the tests. */
  async move(field: string, value: string) {
    for (const of of this.conflicts) for (const one of of.fields) if (one.field === field) one.filemaker = value;
    await this.push();
  }

  #torn(key: unknown) {
    const found = this.conflicts.find(({ row }) => row.record.key === key);
    if (!found) throw { sentence: 'This record is not known here.', code: 'not-found' } satisfies Problem;
    return found;
  }

  opening(): Opening {
    if (this.locked) return { is: 'locked', pin: this.pin !== null };
    const file = '/home/desk/.config/chart-relay/config.toml';
    switch (this.options.get('opening')) {
      case 'welcome':
        return { is: 'welcome', file };
      case 'mistakes':
        return {
          is: 'mistakes',
          file,
          mistakes: [
            'line 4: `time-zone` "America/Newyork" is not a time zone. Did you mean "America/New_York"?',
            'line 9: `token-url` begins with http:. A sign-in must not travel unprotected; use https:.',
            'line 22: the mapping "intake-form" needs the mapping "patient" before it.',
          ],
        };
      case 'not-running':
        return { is: 'not-running', sentence: 'The clinic key does not open this database. Restore the right one from its recovery sheet.' };
      default:
        return { is: 'ready' };
    }
  }

  async answer(command: string, given: Record<string, unknown>): Promise<unknown> {
    this.calls.push({ command, arguments: given });
    const slow = Number(this.options.get('slow') ?? 0);
    if (slow > 0) await new Promise((done) => setTimeout(done, slow));
    if (this.options.get('refuse') === command) {
      throw { sentence: 'The sync is busy with its database just now. Nothing was changed; please try again in a minute.', code: 'database-busy' } satisfies Problem;
    }
    const keys = new Set((given.keys as string[] | undefined) ?? []);
    switch (command) {
      case 'opening':
        return this.opening();
      case 'desk':
        return this.locked ? null : this.desk();
      case 'day':
        return day(this.now, this.state, this.empty);
      case 'queue':
        return {
          rows: this.rows,
          counts: QUEUE_WORDS.map(({ state, word }) => ({ state, word, count: this.rows.filter((row) => row.state === state).length })),
          more: this.options.has('many') ? 1_320 : 0,
          banner: this.pausedUntil === null ? null : 'Paused until 13:42 (maria). What waits is kept.',
        };
      case 'conflicts':
        return { rows: this.conflicts.map(({ row }) => row), more: false };
      case 'sides':
        return sides(this.now, this.#torn(given.key));
      case 'settle': {
        if (this.tokens.has(given.token as string)) return [];
        this.tokens.add(given.token as string);
        const settled = settle(this.#torn(given.key), given.chosen as Chosen[]);
        this.conflicts = this.conflicts.filter(({ row }) => row.fields.length > 0);
        await this.push();
        return settled;
      }
      case 'values':
        return values(this.history.find((row) => row.entry === given.entry)!);
      case 'resyncing':
        return resyncing(given.key as string, given.whole as boolean, this.history.find((row) => row.record?.key === given.key)!.record!);
      case 'resync':
        if (this.tokens.has(given.token as string)) return null;
        this.tokens.add(given.token as string);
        return this.push();
      case 'watching':
        return watching(this.now, Number(this.options.get('ehr') ?? 0), this.empty);
      case 'locks':
        return { rows: this.locks, more: 0 };
      case 'history':
        return this.#history(given.query as HistoryQuery);
      case 'audit':
        return this.#audit(given.query as AuditQuery);
      case 'verify_audit':
        return this.#chain();
      case 'sync_now':
        this.running = 'Checking FileMaker...';
        await this.push();
        setTimeout(() => {
          this.running = null;
          this.last = 'Manual sync 10:42: 2 sent, 0 failed.';
          this.sent += 2;
          void this.push();
        }, 2_000);
        return null;
      case 'pause':
        this.pausedUntil = this.now + { 'quarter-hour': 900_000, hour: 3_600_000, closing: 7 * 3_600_000 }[given.length as PauseFor];
        this.state = 'paused';
        return this.push();
      case 'resume':
        this.pausedUntil = null;
        this.state = 'up-to-date';
        return this.push();
      case 'retry':
        if (this.tokens.has(given.token as string)) return null;
        this.tokens.add(given.token as string);
        this.rows = this.rows.map((row) =>
          keys.has(row.record.key)
            ? { ...row, state: 'waiting', word: 'Waiting', reason: null, code: null, next: null, can_retry: false, can_set_aside: false }
            : row,
        );
        return this.push();
      case 'redrive_plan':
        this.plan = this.#dead(given.reason as string | null);
        return this.#redrive(this.plan);
      case 'redrive':
        for (const row of this.plan.splice(0)) Object.assign(row, { state: 'waiting', word: 'Waiting', reason: null, code: null, next: null, can_retry: false, can_set_aside: false });
        this.rows = [...this.rows];
        return this.push();
      case 'set_aside':
        this.rows = this.rows.map((row) =>
          keys.has(row.record.key)
            ? { ...row, state: 'set-aside', word: 'Set aside', reason: `Set aside by maria: ${(given.reason as AsideReason).replaceAll('-', ' ')}.`, can_retry: false, can_set_aside: false, can_put_back: true }
            : row,
        );
        return this.push();
      case 'put_back':
        this.rows = this.rows.map((row) =>
          keys.has(row.record.key) ? { ...row, state: 'waiting', word: 'Waiting', reason: null, can_put_back: false, can_set_aside: true } : row,
        );
        return this.push();
      case 'drop_letters':
        this.rows = this.rows.filter((row) => !keys.has(row.record.key));
        return this.push();
      case 'reveal':
        return [...keys].map((key) => ({ key, ...this.#name(key) }));
      case 'set_privacy':
        this.privacy = given.on as boolean;
        return this.push();
      case 'lock':
        this.locked = true;
        return emit('locked', null);
      case 'unlock':
        if (this.pin !== null && given.pin !== this.pin) return false;
        this.locked = false;
        return true;
      case 'summary':
        return `Chart Relay 0.2.0, synthetic\nstate: ${this.state}\nFileMaker of synthetic-north: answers\nwaiting: ${this.rows.length}\nlast proof: 10:42:18`;
      case 'active':
      case 'open_logs':
      case 'open_demo':
        return null;
      default:
        throw new Error(`no such command: ${command}`);
    }
  }

  #name(key: string): { name: string | null; sentence: string | null } {
    if (key.includes('nameless')) return { name: null, sentence: 'The chart system does not answer.' };
    const given = ['Alma', 'Bruno', 'Carla', 'Dario', 'Edda', 'Fabio', 'Greta', 'Hanno'];
    const family = ['Testfall', 'Musterfrau', 'Specimen', 'Beispiel', 'Dummytown'];
    const at = [...key].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
    return { name: `${given[at % given.length]} ${family[at % family.length]}`, sentence: null };
  }

  #dead(reason: string | null) {
    return this.rows.filter((row) => row.state === 'needs-attention' && !row.letter && (reason === null || row.code === reason));
  }

  #redrive(rows: QueueRow[]): Redrive {
    const codes = [...new Set(rows.map((row) => row.code ?? 'unexpected'))];
    return {
      items: rows.length,
      reasons: codes.map((code) => {
        const of = rows.filter((row) => (row.code ?? 'unexpected') === code);
        return { code, sentence: of[0]!.reason ?? of[0]!.word, count: of.length };
      }).sort((one, other) => other.count - one.count),
      oldest: rows.map((row) => row.since).sort()[0] ?? null,
      records: rows.slice(0, 5).map((row) => row.record),
      messages: 0,
      stay: this.rows.filter((row) => row.letter).length,
      too_many: rows.length > 10 && !station(this.role, this.privacy, false, false).rights.includes('mend-many'),
    };
  }

  #history(query: HistoryQuery) {
    const rows = this.history.filter(
      (row) =>
        (query.before === null || row.entry < query.before) &&
        (query.direction === null || row.direction === query.direction) &&
        (query.outcome === null || row.outcome === query.outcome) &&
        (query.record === null || row.record?.key === query.record) &&
        (query.since === null || row.at >= query.since) &&
        (query.until === null || row.at < query.until),
    );
    const page = rows.slice(0, 50);
    const note = `What was done at this PC (station front-desk). Each station keeps its own list.${query.record === null ? "" : " This record was last written by station exam-room-2, at 10:31 by its clock."}`;
    return { note, rows: page, next: rows.length > page.length ? page.at(-1)!.entry : null };
  }

  #chain() {
    const broken = this.options.has('broken');
    return {
      at: new Date().toISOString(),
      entries: 18_204,
      intact: !broken,
      sentence: broken ? 'Verified at 10:42: the audit log was altered. Please tell IT at once.' : 'Verified at 10:42: 18\u202f204 entries, each in its place.',
      findings: broken ? ['Entry 17 911 does not fit the one before it.', 'Entries 17 912 to 17 915 are missing.'] : [],
    };
  }

  #audit(query: AuditQuery) {
    const rows = this.audit.filter(
      (row) =>
        (query.before === null || row.entry < query.before) &&
        (query.person === null || row.who === query.person) &&
        (query.act === null || row.act === query.act) &&
        (query.since === null || row.at >= query.since) &&
        (query.until === null || row.at < query.until),
    );
    const page = rows.slice(0, 50);
    const acts = [...new Map(this.audit.map((row) => [row.act, row.word]))].map(([act, word]) => ({ act, word }));
    return { rows: page, next: rows.length > page.length ? page.at(-1)!.entry : null, chain: this.empty ? null : this.#chain(), acts };
  }
}

declare global {
  interface Window {
    clinic: Clinic;
  }
}

export function open() {
  mockWindows('main');
  const clinic = new Clinic();
  window.clinic = clinic;
  mockIPC((command, given) => clinic.answer(command, (given ?? {}) as Record<string, unknown>), { shouldMockEvents: true });
}
