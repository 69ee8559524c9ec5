// What the window does by itself: it follows, holds still, forgets, locks, and says what failed.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { start } from './window.mjs';

let window;
before(async () => (window = await start()));
after(() => window.close());

const calls = (page, command) => page.evaluate((name) => window.clinic.calls.filter((call) => call.command === name), command);
const keys = (page) => page.locator('tr[data-key]').evaluateAll((rows) => rows.map((row) => row.dataset.key));
const rows = (page) => page.waitForSelector('tr[data-key]');
const NAMES = /Testfall|Musterfrau|Specimen|Beispiel|Dummytown/;
const text = (page) => page.evaluate(() => document.documentElement.outerHTML);

test('rows::they do not move under the focus, and N takes over what is new', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  const before = await keys(page);
  await page.keyboard.press('j');
  await page.evaluate(() => window.clinic.arrive('synthetic-new'));
  await page.getByRole('button', { name: '1 new, press N' }).waitFor();
  assert.deepEqual(await keys(page), before);
  await page.keyboard.press('n');
  await page.waitForFunction(() => document.querySelector('tr[data-key]').dataset.key === 'synthetic-new');
  await close();
});

test('rows::they do not move under the pointer, and follow when it leaves', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  const before = await keys(page);
  await page.locator('tr[data-key]').nth(3).hover();
  await page.evaluate(() => window.clinic.arrive('synthetic-new'));
  await page.getByRole('button', { name: '1 new, press N' }).waitFor();
  assert.deepEqual(await keys(page), before);
  await page.locator('h1').hover();
  await page.waitForFunction(() => document.querySelector('tr[data-key]').dataset.key === 'synthetic-new');
  await close();
});

test('rows::one that has left stays where it was while the table is held, and says so', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  const before = await keys(page);
  await page.keyboard.press('j');
  await page.evaluate(() => ((window.clinic.rows = window.clinic.rows.slice(1)), window.clinic.push()));
  await page.waitForFunction(() => document.querySelector('tr[data-key]').textContent.includes('Left the queue'));
  assert.deepEqual(await keys(page), before);
  await close();
});

test('rows::a list is asked for at most once a second', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  await page.clock.pauseAt(new Date('2026-03-12T11:00:00'));
  await page.clock.runFor(2_000);
  const before = (await calls(page, 'queue')).length;
  for (let step = 0; step < 10; step += 1) {
    await page.evaluate(() => window.clinic.push());
    await page.clock.runFor(100);
  }
  const asked = (await calls(page, 'queue')).length - before;
  assert.ok(asked >= 1 && asked <= 2, `asked ${asked} times in a second`);
  await close();
});

test('names::one is shown for ten seconds and masked again', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  assert.doesNotMatch(await text(page), NAMES);
  await page.clock.pauseAt(new Date('2026-03-12T11:00:00'));
  await page.keyboard.press('j');
  await page.locator('tr[data-key] .record button').first().focus();
  await page.keyboard.press('Enter');
  await page.waitForSelector('tr .name');
  assert.match(await text(page), NAMES);
  assert.equal((await calls(page, 'reveal')).length, 1);
  assert.equal((await calls(page, 'reveal'))[0].arguments.keys.length, 1);
  await page.clock.runFor(9_900);
  assert.equal(await page.locator('tr .name').count(), 1);
  await page.clock.runFor(200);
  await page.waitForSelector('tr .name', { state: 'detached' });
  assert.doesNotMatch(await text(page), NAMES);
  await close();
});

test('names::a list that is asked for again does not cut the ten seconds short', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  await page.locator('tr[data-key] .record button').first().click();
  await page.waitForSelector('tr .name');
  const before = (await calls(page, 'queue')).length;
  await page.evaluate(() => window.clinic.push());
  await page.waitForFunction((count) => window.clinic.calls.filter(({ command }) => command === 'queue').length > count, before);
  assert.equal(await page.locator('tr .name').count(), 1);
  await close();
});

test('names::held, one goes when the button is let go', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  await page.locator('tr[data-key] .record button').first().hover();
  await page.mouse.down();
  await page.waitForSelector('tr .name');
  await page.clock.fastForward(2_000);
  assert.equal(await page.locator('tr .name').count(), 1);
  await page.mouse.up();
  await page.waitForSelector('tr .name', { state: 'detached' });
  await close();
});

test('names::without privacy only the rows in sight are read, and hiding forgets all', async () => {
  const { page, close } = await window.open('?state=needs-attention&many=200&privacy=off#/queue');
  await page.waitForSelector('tr .name');
  const asked = new Set((await calls(page, 'reveal')).flatMap((call) => call.arguments.keys));
  assert.ok(asked.size < 40, `${asked.size} names were read`);
  await page.getByRole('switch', { name: 'Hide names' }).click();
  await page.waitForSelector('tr .name', { state: 'detached' });
  assert.doesNotMatch(await text(page), NAMES);
  await close();
});

test('names::a role without the right has no button for them', async () => {
  const { page, close } = await window.open('?state=needs-attention&role=it#/queue');
  await rows(page);
  assert.equal(await page.locator('.record button').count(), 0);
  assert.equal(await page.getByRole('switch', { name: 'Hide names' }).count(), 0);
  await close();
});

test('lock::everything that was shown is gone from the document, and only the PIN brings it back', async () => {
  const { page, close } = await window.open('?state=needs-attention&pin=1234#/queue');
  await rows(page);
  await page.locator('tr[data-key] .record button').first().click();
  await page.waitForSelector('tr .name');
  const label = await page.locator('tr .label').first().textContent();
  await page.keyboard.press('Control+l');
  await page.getByRole('heading', { name: 'Locked' }).waitFor();
  const left = await text(page);
  assert.doesNotMatch(left, NAMES);
  assert.ok(!left.includes(label), 'a pseudonym is still in the document');
  assert.equal(await page.locator('table, nav').count(), 0);
  // A picture that was on its way changes nothing.
  await page.evaluate(() => ((window.clinic.locked = false), window.clinic.push().then(() => (window.clinic.locked = true))));
  assert.equal(await page.locator('table, nav').count(), 0);
  await page.keyboard.type('9999');
  await page.keyboard.press('Enter');
  await page.getByText('This PIN is not right').waitFor();
  await page.keyboard.type('1234');
  await page.keyboard.press('Enter');
  await rows(page);
  assert.equal(await page.locator('tr .name').count(), 0);
  await close();
});

test('lock::the program can lock the window', async () => {
  const { page, close } = await window.open('?pin=1234');
  await page.waitForSelector('.verdict');
  await page.evaluate(() => window.clinic.answer('lock', {}));
  await page.getByRole('heading', { name: 'Locked' }).waitFor();
  await close();
});

test('lock::somebody who is there is told of, every few seconds at most', async () => {
  const { page, close } = await window.open('#/queue');
  await page.waitForSelector('h1');
  await page.clock.pauseAt(new Date('2026-03-12T11:00:00'));
  await page.clock.runFor(6_000);
  const before = (await calls(page, 'active')).length;
  for (let step = 0; step < 5; step += 1) await page.keyboard.press('Tab');
  assert.equal((await calls(page, 'active')).length, before + 1);
  await page.clock.runFor(6_000);
  await page.keyboard.press('Tab');
  assert.equal((await calls(page, 'active')).length, before + 2);
  await close();
});

test('silence::the last truth stays with its time, and nothing can be asked for', async () => {
  const { page, close } = await window.open('?state=needs-attention');
  await page.waitForSelector('.verdict');
  await page.evaluate(() => ((window.clinic.silent = true), window.clinic.push()));
  await page.locator('header').getByText('Not live · 10:38').waitFor();
  assert.match(await page.locator('.verdict').textContent(), /Last known: 7 items need attention/);
  assert.ok(await page.getByRole('button', { name: 'Sync now' }).isDisabled());
  assert.ok(await page.getByRole('button', { name: 'Pause' }).isDisabled());
  await page.evaluate(() => ((window.clinic.silent = false), window.clinic.push()));
  await page.locator('header').getByText('Not live').waitFor({ state: 'detached' });
  await close();
});

test('refusal::what failed is said in an alert, and the rows stay', async () => {
  const { page, close } = await window.open('?state=needs-attention&refuse=retry#/queue');
  await rows(page);
  const before = await keys(page);
  await page.keyboard.press('j');
  await page.keyboard.press('r');
  await page.getByRole('alert').filter({ hasText: 'Nothing was changed; please try again in a minute.' }).waitFor();
  assert.deepEqual(await keys(page), before);
  await page.getByRole('button', { name: 'Close this message' }).click();
  await page.getByRole('alert').waitFor({ state: 'detached' });
  await close();
});

test('refusal::the front desk may mend ten at once, not more', async () => {
  const { page, close } = await window.open('?state=cannot-reach&role=front-desk&many=20#/queue');
  await rows(page);
  await page.getByLabel('Select all rows').check();
  await page.getByText('More than 10 at once: please ask a manager.').waitFor();
  assert.ok(await page.getByRole('button', { name: /^Set aside \(/ }).isDisabled());
  await close();
});

test('redrive::what it would be is shown first, by reason, and done once', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  await page.getByRole('button', { name: 'Try all again...' }).click();
  const dialog = page.getByRole('dialog', { name: 'Try again what needs attention' });
  await dialog.locator('li').first().waitFor();
  const all = Number((await dialog.locator('b').first().textContent()).match(/\d+/)[0]);
  assert.equal((await calls(page, 'redrive')).length, 0);
  await dialog.getByLabel('Reason').selectOption({ index: 1 });
  await dialog.locator('li').first().waitFor();
  await page.waitForFunction(() => document.querySelectorAll('dialog li').length === 1);
  const some = Number((await dialog.locator('b').first().textContent()).match(/\d+/)[0]);
  assert.ok(some < all, `${some} of ${all}`);
  await dialog.getByRole('button', { name: /^Try \d+ items? again$/ }).click();
  await dialog.waitFor({ state: 'detached' });
  assert.equal((await calls(page, 'redrive')).length, 1);
  await page.getByRole('button', { name: 'Try all again...' }).click();
  await dialog.locator('li').first().waitFor();
  assert.equal(Number((await dialog.locator('b').first().textContent()).match(/\d+/)[0]), all - some);
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  await close();
});

test('redrive::so many at once are for a manager, and a refusal is said', async () => {
  const { page, close } = await window.open('?state=needs-attention&role=clinician#/queue');
  await rows(page);
  assert.equal(await page.getByRole('button', { name: 'Try all again...' }).count(), 0);
  await close();
  const refused = await window.open('?state=needs-attention&refuse=redrive#/queue');
  await rows(refused.page);
  await refused.page.getByRole('button', { name: 'Try all again...' }).click();
  await refused.page.getByRole('button', { name: /^Try \d+ items? again$/ }).click();
  await refused.page.getByRole('alert').filter({ hasText: 'Nothing was changed' }).waitFor();
  await refused.close();
});

test('rights::the codes are for IT', async () => {
  for (const [role, count] of [['front-desk', 0], ['it', 1]]) {
    const { page, close } = await window.open(`?state=needs-attention&role=${role}#/queue`);
    await rows(page);
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.waitForSelector('aside h2');
    assert.equal(await page.getByText('Details for IT').count(), count, role);
    await close();
  }
});

test('speech::summaries come at most every ten seconds', async () => {
  const { page, close } = await window.open();
  await page.waitForSelector('.verdict');
  await page.clock.pauseAt(new Date('2026-03-12T11:00:00'));
  await page.evaluate(() => {
    window.said = [];
    new MutationObserver(() => window.said.push(document.querySelector('[role=status][aria-live]').textContent)).observe(document.querySelector('[role=status][aria-live]'), { childList: true, characterData: true, subtree: true });
  });
  const send = (count) => page.evaluate((count) => ((window.clinic.sent += count), window.clinic.push()), count);
  await send(3);
  await page.waitForFunction(() => window.said.length === 1);
  await send(2);
  await send(1);
  await page.clock.runFor(9_000);
  assert.deepEqual(await page.evaluate(() => window.said), ['3 changes sent.']);
  await page.clock.runFor(2_000);
  await page.waitForFunction(() => window.said.length === 2);
  assert.match(await page.evaluate(() => window.said[1]), /2 changes sent\..*1 change sent\./);
  await close();
});

test('waiting::a skeleton only after 300 ms, and never over what is known', async () => {
  const { page, close } = await window.open('?state=needs-attention');
  await page.waitForSelector('.verdict');
  await page.clock.pauseAt(new Date('2026-03-12T11:00:00'));
  await page.evaluate(() => window.clinic.options.set('slow', '2000'));
  await page.keyboard.press('Control+2');
  await page.clock.runFor(250);
  assert.equal(await page.locator('.skeleton').count(), 0);
  await page.clock.runFor(100);
  await page.waitForSelector('.skeleton');
  await page.clock.runFor(2_000);
  await rows(page);
  assert.equal(await page.locator('.skeleton').count(), 0);
  await page.evaluate(() => window.clinic.push());
  await page.clock.runFor(1_500);
  assert.ok((await keys(page)).length > 0);
  assert.equal(await page.locator('.skeleton').count(), 0);
  await close();
});

test('pages::older entries follow, and stay when new ones come', async () => {
  const { page, close } = await window.open('#/history');
  await rows(page);
  assert.equal((await keys(page)).length, 50);
  await page.getByRole('button', { name: 'Show older' }).click();
  await page.waitForFunction(() => document.querySelectorAll('tr[data-key]').length === 100);
  await page.evaluate(() => window.clinic.push());
  await page.getByRole('button', { name: 'Show older' }).click();
  await page.waitForFunction(() => document.querySelectorAll('tr[data-key]').length === 130);
  assert.equal(new Set(await keys(page)).size, 130);
  await close();
});

test('history::of one record, without its key in the address', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'History of this record' }).click();
  await page.getByRole('heading', { level: 1, name: 'History' }).waitFor();
  await page.waitForFunction(() => window.clinic.calls.some(({ command, arguments: given }) => command === 'history' && given.query.record));
  assert.equal(await page.evaluate(() => location.hash), '#/history');
  await close();
});

test('opening::the tray leads to a view', async () => {
  const { page, close } = await window.open('?state=needs-attention');
  await page.waitForSelector('.verdict');
  await page.evaluate(() => window.__TAURI_INTERNALS__.invoke('plugin:event|emit', { event: 'go', payload: 'queue-attention' }));
  await page.getByRole('heading', { level: 1, name: 'Queue' }).waitFor();
  await page.getByRole('button', { name: /Needs attention/, pressed: true }).waitFor();
  await close();
});

test('opening::the demo is offered where nothing is set up', async () => {
  const { page, close } = await window.open('?opening=welcome');
  await page.getByRole('button', { name: 'See the demo' }).click();
  await page.waitForFunction(() => window.clinic.calls.some(({ command }) => command === 'open_demo'));
  await close();
});

test('audit::a person is asked for once the name is written, and everybody again when it is cleared', async () => {
  const { page, close } = await window.open('#/audit');
  await rows(page);
  const field = page.getByLabel('Person');
  await field.focus();
  await page.keyboard.type('jonas');
  assert.ok((await calls(page, 'audit')).every(({ arguments: { query } }) => query.person === null));
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => [...document.querySelectorAll('tr[data-key]')].every((row) => row.textContent.includes('jonas')));
  await field.fill('');
  await page.waitForFunction(() => document.querySelectorAll('tr[data-key]').length === 50);
  await close();
});
