// Made from src-tauri/view by its test `bindings_are_fresh`; not to be edited.

export type State = "needs-attention" | "cannot-reach" | "no-news" | "paused" | "working" | "starting" | "up-to-date";

export type AsideReason = "entered-by-hand" | "not-needed" | "duplicate" | "asked-it";

export type Role = "front-desk" | "manager" | "clinician" | "it";

export type Right = "sync-now" | "pause" | "mend" | "mend-many" | "drop" | "reveal" | "details" | "verify-audit";

export type Detail = { name: string, value: string, };

export type RecordName = { 
/**
 * What actions name it by; not for the screen.
 */
key: string, 
/**
 * "Patient 4F2", the same each time and telling nothing.
 */
label: string, 
/**
 * The clinic's name for the screen.
 */
firm: string, 
/**
 * There is a name behind it; a message, a poll or a proof has none.
 */
named: boolean, };

export type Go = "queue-attention" | "conflicts" | "queue-waiting" | "locks-overdue" | "resume" | "summary";

export type Cause = { state: State, 
/**
 * "Can't reach FileMaker since 10:14. Changes are kept."
 */
sentence: string, go: Go | null, details: Array<Detail>, };

export type Card = { state: State, 
/**
 * The same as the tray's first line.
 */
sentence: string, 
/**
 * When the picture was made (RFC 3339); for `UpToDate` the time of the proof.
 */
at: string, 
/**
 * Everything that is not well, the worst first; empty when all is.
 */
causes: Array<Cause>, };

export type SyncNow = { can: boolean, 
/**
 * "Checking FileMaker..." while it runs.
 */
running: string | null, 
/**
 * "Manual sync 10:42: 3 sent, 0 failed."
 */
last: string | null, };

export type PauseNow = { 
/**
 * RFC 3339.
 */
until: string, 
/**
 * "Paused until 14:30 (maria)".
 */
sentence: string, };

export type PauseFor = "quarter-hour" | "hour" | "closing";

export type Live = { "is": "live" } | { "is": "silent", since: string, sentence: string, };

export type Station = { name: string, 
/**
 * The signed-in account of the operating system.
 */
person: string, role: Role, rights: Array<Right>, pauses: Array<PauseFor>, 
/**
 * Names are masked until each is revealed.
 */
privacy: boolean, 
/**
 * Minutes without a key or a click until the window locks; 0: never.
 */
lock_after_minutes: number, 
/**
 * A PIN is set, so that unlocking asks for it.
 */
pin: boolean, 
/**
 * A synthetic clinic: nothing here is real.
 */
demo: boolean, 
/**
 * An icon shows the same. False: this PC can show none, or the program that shows it is gone.
 */
tray: boolean, };

export type Desk = { 
/**
 * Rises with everything that may have changed a list.
 */
revision: number, live: Live, station: Station, card: Card, sync: SyncNow, pause: PauseNow | null, overview: Overview, 
/**
 * For the navigation's badges.
 */
waiting: number, 
/**
 * All that needs a person, the conflicts among it.
 */
attention: number, conflicts: number, 
/**
 * An EHR is watched, so there is something to show of that.
 */
watches: boolean, };

export type Opening = { "is": "ready" } | { "is": "welcome", file: string, } | { "is": "mistakes", file: string, mistakes: Array<string>, } | { "is": "not-running", sentence: string, } | { "is": "locked", 
/**
 * A PIN is asked for.
 */
pin: boolean, };

export type Problem = { sentence: string, code: string | null, };

export type Overview = { connections: Array<ConnectionLine>, 
/**
 * False until what stations share has answered: then no figure here means anything.
 */
known: boolean, waiting: number, 
/**
 * Age of the oldest thing wanted, in seconds.
 */
oldest_seconds: number | null, 
/**
 * The oldest should be younger than this.
 */
target_seconds: number, 
/**
 * Rows created or edited since midnight, by the clock on this wall.
 */
sent_today: number, attention: number, recent: Array<RecentLine>, 
/**
 * The others that share the work, this one included; empty where it works by itself.
 */
stations: Array<StationLine>, };

export type ConnectionLine = { firm: string, 
/**
 * "FileMaker", "Chart system".
 */
name: string, good: boolean, 
/**
 * "answered 4 s ago", "away since 10:14: ...".
 */
sentence: string, details: Array<Detail>, };

export type RecentLine = { 
/**
 * RFC 3339.
 */
at: string, 
/**
 * "Sent to FileMaker: 3 fields".
 */
sentence: string, record: RecordName, };

export type StationLine = { 
/**
 * "This PC (front-desk)", "desk-2".
 */
name: string, 
/**
 * It was seen to live not long ago.
 */
good: boolean, 
/**
 * "seen 40 s ago"
 */
sentence: string, details: Array<Detail>, };

export type Day = { 
/**
 * RFC 3339; the first bin begins here.
 */
from: string, bins: Array<Bin>, target_seconds: number, 
/**
 * When the last change was sent, if nothing was today (RFC 3339).
 */
last_sent: string | null, };

export type Bin = { 
/**
 * RFC 3339.
 */
from: string, 
/**
 * The state that lasted longest; none: the program did not run.
 */
state: State | null, sent: number, 
/**
 * Records that came to need attention.
 */
failed: number, 
/**
 * Milliseconds from first seen to sent: median and 95th percentile.
 */
p50_ms: number | null, p95_ms: number | null, };

export type QueueState = "needs-attention" | "waiting-for-record" | "trying-again" | "in-progress" | "waiting" | "set-aside";

export type Queue = { 
/**
 * Those that need attention first, then by age, the oldest first.
 */
rows: Array<QueueRow>, counts: Array<QueueCount>, 
/**
 * There are so many more than are listed.
 */
more: number, 
/**
 * "Paused until 14:30 (maria). What waits is kept."
 */
banner: string | null, };

export type QueueCount = { state: QueueState, word: string, 
/**
 * Among the listed rows.
 */
count: number, };

export type QueueRow = { 
/**
 * A message that could not be read has no record: its label says so.
 */
record: RecordName, 
/**
 * True for a message that could not be read: it can only be dropped.
 */
letter: boolean, state: QueueState, 
/**
 * "Needs attention", "Trying again (3 of 8)".
 */
word: string, 
/**
 * "Intake form to FileMaker".
 */
what: string, 
/**
 * First seen, RFC 3339.
 */
since: string, tries: number, 
/**
 * Next try, RFC 3339.
 */
next: string | null, 
/**
 * What happened, what it means, what to do.
 */
reason: string | null, 
/**
 * Rows of one reason are grouped by this.
 */
code: string | null, can_retry: boolean, can_set_aside: boolean, can_put_back: boolean, can_drop: boolean, details: Array<Detail>, };

export type Redrive = { 
/**
 * Records and messages.
 */
items: number, 
/**
 * The most frequent first.
 */
reasons: Array<RedriveReason>, 
/**
 * RFC 3339.
 */
oldest: string | null, 
/**
 * The first few records.
 */
records: Array<RecordName>, 
/**
 * Messages that can be read again, and others that stay where they are.
 */
messages: number, stay: number, 
/**
 * This role may not ask for so many at once.
 */
too_many: boolean, };

export type RedriveReason = { code: string, sentence: string, count: number, };

export type Conflicts = { 
/**
 * The oldest first.
 */
rows: Array<ConflictRow>, 
/**
 * There are others that are not listed.
 */
more: boolean, };

export type ConflictRow = { record: RecordName, 
/**
 * "Patient", "Measurement".
 */
what: string, 
/**
 * Names of the fields.
 */
fields: Array<string>, 
/**
 * The oldest of them (RFC 3339).
 */
since: string, };

export type Take = "chart" | "file-maker" | "typed";

export type Chosen = { field: string, 
/**
 * As `FieldSides::seen`: what the person saw.
 */
seen: string, take: Take, 
/**
 * What was typed, where it is neither side's.
 */
typed: string | null, };

export type Settled = { field: string, 
/**
 * Why it was not done; none: both sides hold it.
 */
problem: Problem | null, 
/**
 * A side has changed since the person saw it: nothing was done, and it is to be looked at again.
 */
moved: boolean, };

export type Sides = { record: RecordName, 
/**
 * "Patient", "Measurement".
 */
what: string, chart: SideOrigin, filemaker: SideOrigin, 
/**
 * Those about which a person has to decide first.
 */
fields: Array<FieldSides>, };

export type SideOrigin = { 
/**
 * "Chart system".
 */
name: string, 
/**
 * RFC 3339.
 */
at: string | null, 
/**
 * Who, by the side's own word.
 */
by: string | null, 
/**
 * "Last written by Chart Relay, ...", "It does not say by whom", "There is no such record any more".
 */
sentence: string, };

export type FieldSides = { field: string, 
/**
 * A person has to decide.
 */
open: boolean, 
/**
 * Since when (RFC 3339).
 */
since: string | null, 
/**
 * None: it cannot be read as a value.
 */
chart: string | null, filemaker: string | null, 
/**
 * What the choice is bound to; none: this field cannot be decided here. Not for the screen.
 */
seen: string | null, };

export type FieldValues = { field: string, 
/**
 * None: not kept.
 */
before: string | null, after: string | null, };

export type Resyncing = { record: RecordName, what: string, to_filemaker: Array<string>, to_chart: Array<string>, 
/**
 * Those a person has to decide.
 */
open: Array<string>, 
/**
 * What there is to say where no field can be named: a side is away, a record is gone, nothing differs.
 */
sentence: string | null, };

export type WatchState = "trouble" | "away" | "paused" | "waiting" | "elsewhere" | "starting" | "watching";

export type WatchedKind = { 
/**
 * "Visits", "Photographs and notes".
 */
what: string, 
/**
 * Everything that the EHR stamped up to then is known here (RFC 3339, the EHR's clock).
 */
complete: string | null, 
/**
 * RFC 3339.
 */
next: string | null, };

export type WatchedClinic = { name: string, state: WatchState, 
/**
 * "Watching", "Waits for the quota", "Watched by desk-2".
 */
word: string, 
/**
 * What happened, what it means, what to do; none while all is well.
 */
sentence: string | null, kinds: Array<WatchedKind>, details: Array<Detail>, };

export type QuotaLine = { name: string, 
/**
 * Requests in the last window, and how many there may be.
 */
used: number, limit: number, 
/**
 * "of 750 requests in the last 60 s, by 3 stations".
 */
sentence: string, 
/**
 * "The EHR asked for silence until 10:42:31. It goes on by itself."
 */
waits: string | null, details: Array<Detail>, };

export type WatchGroup = "found" | "visit" | "listed";

export type WatchRow = { record: RecordName, group: WatchGroup, 
/**
 * "Visit", "Photograph of one spot", "Photograph of a rash", "Note".
 */
what: string, 
/**
 * "In progress", "Waits for a model".
 */
word: string, 
/**
 * First seen (RFC 3339).
 */
since: string, 
/**
 * Looked at next (RFC 3339).
 */
next: string | null, 
/**
 * Why then.
 */
reason: string, details: Array<Detail>, };

export type Watching = { 
/**
 * In order of name; those that need somebody first.
 */
clinics: Array<WatchedClinic>, quotas: Array<QuotaLine>, 
/**
 * What is looked at next first.
 */
rows: Array<WatchRow>, 
/**
 * There are so many more than are listed.
 */
more: number, };

export type LockGroup = "overdue" | "active" | "in-file-maker";

export type Lock = { record: RecordName, group: LockGroup, 
/**
 * "This PC", "Station desk-2", "Someone in FileMaker".
 */
holder: string, 
/**
 * RFC 3339.
 */
since: string | null, 
/**
 * Without renewal it is free after this many seconds.
 */
term_seconds: number | null, 
/**
 * "Patient to FileMaker", "Reads the chart system".
 */
what: string, 
/**
 * "Another change waits behind it."
 */
behind: string | null, 
/**
 * What happens next.
 */
sentence: string, details: Array<Detail>, };

export type Locks = { rows: Array<Lock>, more: number, };

export type Direction = "to-file-maker" | "to-chart" | "here";

export type HistoryOutcome = "done" | "refused" | "unknown" | "interrupted" | "open";

export type HistoryQuery = { 
/**
 * Entries older than this one.
 */
before: number | null, direction: Direction | null, outcome: HistoryOutcome | null, 
/**
 * A record's key.
 */
record: string | null, 
/**
 * RFC 3339.
 */
since: string | null, until: string | null, };

export type History = { 
/**
 * What this list is of, where others take part.
 */
note: string | null, 
/**
 * Newest first.
 */
rows: Array<HistoryRow>, 
/**
 * For the next page.
 */
next: number | null, };

export type HistoryRow = { 
/**
 * The entry of the audit log.
 */
entry: number, 
/**
 * RFC 3339.
 */
at: string, direction: Direction, 
/**
 * "Sent to FileMaker".
 */
sentence: string, record: RecordName | null, 
/**
 * "Patient", "Intake form"; empty where no record is concerned.
 */
what: string, outcome: HistoryOutcome, outcome_word: string, 
/**
 * Names of the fields that were written; their values are not kept.
 */
fields: Array<string>, person: string | null, 
/**
 * "This PC", or the name that this station had.
 */
station: string, details: Array<Detail>, };

export type AuditQuery = { before: number | null, person: string | null, 
/**
 * As `AuditRow::act`.
 */
act: string | null, since: string | null, until: string | null, };

export type Audit = { 
/**
 * Newest first.
 */
rows: Array<AuditRow>, next: number | null, chain: Chain | null, 
/**
 * What can be chosen as `AuditQuery::act`, each with its word.
 */
acts: Array<ActWord>, };

export type ActWord = { act: string, word: string, };

export type Chain = { at: string, entries: number, intact: boolean, 
/**
 * "Verified at 10:40: 18 204 entries, each in its place."
 */
sentence: string, 
/**
 * Each finding; empty when intact.
 */
findings: Array<string>, };

export type AuditRow = { entry: number, at: string, 
/**
 * The account of the operating system, or "Chart Relay".
 */
who: string, act: string, 
/**
 * "Row created", "Name revealed".
 */
word: string, record: RecordName | null, outcome: HistoryOutcome, outcome_word: string, 
/**
 * Field names, or what was asked.
 */
about: Array<string>, 
/**
 * The station.
 */
station: string, };

export type Revealed = { key: string, 
/**
 * The patient's name as the chart has it now; none: the chart has none, or does not answer.
 */
name: string | null, 
/**
 * Why there is none.
 */
sentence: string | null, };
