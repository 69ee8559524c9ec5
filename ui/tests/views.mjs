// Everything that can be on the screen, each with the steps that lead to it.

const press = (...keys) => async (page) => {
  for (const key of keys) await page.keyboard.press(key);
};
const click = (name) => (page) => page.getByRole('button', { name, exact: true }).first().click();
const rows = (page) => page.waitForSelector('tr[data-key]');
const then = (...steps) => async (page) => {
  for (const step of steps) await step(page);
};
const charts = (page) => page.waitForSelector('.strip a');

export const VIEWS = [
  { name: 'overview', at: '', to: charts },
  { name: 'overview-needs-attention', at: '?state=needs-attention', to: charts },
  { name: 'overview-cannot-reach', at: '?state=cannot-reach&role=it', to: charts },
  { name: 'overview-no-news', at: '?state=no-news', to: charts },
  { name: 'overview-paused', at: '?state=paused', to: charts },
  { name: 'overview-working', at: '?state=working', to: charts },
  { name: 'overview-starting', at: '?state=starting&empty', to: charts },
  { name: 'overview-empty', at: '?empty', to: charts },
  { name: 'overview-silent', at: '?silent&state=no-news', to: charts },
  { name: 'overview-table', at: '', to: then(charts, click('Show as table')) },
  { name: 'overview-pause', at: '', to: then(charts, click('Pause')) },
  { name: 'overview-refused', at: '?refuse=sync_now', to: then(charts, click('Sync now'), (page) => page.waitForSelector('[role=alert] span')) },
  { name: 'queue', at: '?state=needs-attention#/queue', to: rows },
  { name: 'queue-grouped', at: '?state=needs-attention#/queue', to: then(rows, (page) => page.getByLabel('Group by reason').check()) },
  { name: 'queue-drawer', at: '?state=needs-attention&role=it#/queue', to: then(rows, press('j', 'Enter')) },
  { name: 'queue-confirm', at: '?state=needs-attention#/queue', to: then(rows, press('j', 'Space', 'j', 'Space', 'r')) },
  { name: 'queue-set-aside', at: '?state=needs-attention#/queue', to: then(rows, press('j', 'Space'), click('Set aside')) },
  { name: 'queue-redrive', at: '?state=needs-attention#/queue', to: then(rows, click('Try all again...'), (page) => page.waitForSelector('dialog li')) },
  { name: 'queue-paused', at: '?state=paused#/queue', to: rows },
  { name: 'queue-names', at: '?state=needs-attention&privacy=off#/queue', to: then(rows, (page) => page.waitForSelector('tr .name')) },
  { name: 'queue-empty', at: '?empty#/queue', to: (page) => page.waitForSelector('text=Nothing waiting') },
  { name: 'conflicts', at: '?conflicts=3#/conflicts', to: rows },
  { name: 'conflicts-ask', at: '?conflicts=3#/conflicts', to: then(rows, press('j', 'Enter'), (page) => page.getByRole('button', { name: 'Show both sides' }).waitFor()) },
  { name: 'conflicts-sides', at: '?conflicts=3&privacy=off#/conflicts', to: then(rows, press('j', 'Enter'), (page) => page.getByLabel('FileMaker').first().check()) },
  { name: 'conflicts-note', at: '?conflicts=3&privacy=off#/conflicts', to: then(rows, press('j', 'j', 'Enter'), (page) => page.waitForSelector('fieldset')) },
  { name: 'conflicts-undecidable', at: '?conflicts=3&privacy=off#/conflicts', to: then(rows, press('j', 'j', 'j', 'Enter'), (page) => page.waitForSelector('fieldset')) },
  {
    name: 'conflicts-moved',
    at: '?conflicts=3&privacy=off#/conflicts',
    to: then(rows, press('j', 'Enter'), (page) => page.getByLabel('FileMaker').first().check(), (page) => page.evaluate(() => window.clinic.move('Street', 'SYNTHETIC 99 Specimen Street')), click('Save'), (page) => page.waitForSelector('.told')),
  },
  { name: 'conflicts-others', at: '?conflicts=3&privacy=off#/conflicts', to: then(rows, press('j', 'Enter'), (page) => page.getByText('The other fields').click()) },
  { name: 'conflicts-clinician', at: '?conflicts=3&privacy=off&role=clinician#/conflicts', to: then(rows, press('j', 'Enter'), (page) => page.waitForSelector('fieldset')) },
  { name: 'conflicts-empty', at: '#/conflicts', to: (page) => page.waitForSelector('text=Nothing to decide') },
  { name: 'overview-conflicts', at: '?conflicts=2', to: charts },
  { name: 'watching', at: '?ehr=1#/watching', to: rows },
  { name: 'watching-clinics', at: '?ehr=5#/watching', to: rows },
  { name: 'watching-many', at: '?ehr=60#/watching', to: then(rows, click('Show all 60')) },
  { name: 'watching-drawer', at: '?ehr=5&role=it#/watching', to: then(rows, press('j', 'j', 'j', 'j', 'Enter')) },
  { name: 'watching-empty', at: '?ehr=1&empty#/watching', to: (page) => page.waitForSelector('text=No visit is open') },
  { name: 'locks', at: '?state=needs-attention#/locks', to: rows },
  { name: 'locks-drawer', at: '?state=needs-attention&role=it#/locks', to: then(rows, press('j', 'Enter')) },
  { name: 'locks-empty', at: '?empty#/locks', to: (page) => page.waitForSelector('text=Nothing is being worked on') },
  { name: 'history', at: '#/history', to: rows },
  { name: 'history-drawer', at: '#/history', to: then(rows, press('j', 'j', 'Enter')) },
  { name: 'history-values', at: '#/history', to: then(rows, press('j', 'j', 'Enter'), click('Show before and after'), (page) => page.waitForSelector('aside dl + .link')) },
  { name: 'history-resync', at: '#/history', to: then(rows, press('j', 'j', 'Enter'), click('Resync this patient...'), (page) => page.waitForSelector('dialog li')) },
  { name: 'history-replay', at: '#/history', to: then(rows, press('j', 'j', 'Enter'), click('Replay...'), (page) => page.waitForSelector('dialog li')) },
  { name: 'history-empty', at: '?empty#/history', to: (page) => page.waitForSelector('text=No history yet') },
  { name: 'audit', at: '#/audit', to: rows },
  { name: 'audit-drawer', at: '#/audit', to: then(rows, press('j', 'Enter')) },
  { name: 'audit-broken', at: '?broken#/audit', to: rows },
  { name: 'audit-empty', at: '?empty#/audit', to: rows },
  { name: 'help', at: '', to: then(charts, press('?'), click('Show the summary'), (page) => page.waitForSelector('textarea')) },
  { name: 'welcome', at: '?opening=welcome' },
  { name: 'mistakes', at: '?opening=mistakes' },
  { name: 'not-running', at: '?opening=not-running' },
  { name: 'locked', at: '?locked' },
  { name: 'locked-pin', at: '?locked&pin=1234' },
];
