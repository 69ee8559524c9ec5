// The whole window without a mouse.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { start } from './window.mjs';

let window;
before(async () => (window = await start()));
after(() => window.close());

const heading = (page) => page.locator('main h1').textContent();
const focused = (page) => page.evaluate(() => document.activeElement?.closest('[data-key]')?.getAttribute('data-key') ?? document.activeElement?.tagName);
const calls = (page, command) => page.evaluate((name) => window.clinic.calls.filter((call) => call.command === name), command);
const row = (page, index) => page.locator('tr[data-key]').nth(index).getAttribute('data-key');
const rows = (page) => page.waitForSelector('tr[data-key]');

test('keyboard::each view is opened by its number', async () => {
  const { page, close } = await window.open();
  for (const [index, title] of ['Overview', 'Queue', 'Conflicts', 'Locks', 'History', 'Audit'].entries()) {
    await page.keyboard.press(`Control+${index + 1}`);
    await page.getByRole('heading', { level: 1, name: title }).waitFor();
    assert.equal(await page.locator('nav [aria-current=page] .word').textContent(), title);
  }
  await close();
});

test('keyboard::where an EHR is watched that view has a number too', async () => {
  const { page, close } = await window.open('?ehr=1');
  for (const [index, title] of ['Overview', 'Queue', 'Conflicts', 'Watching', 'Locks'].entries()) {
    await page.keyboard.press(`Control+${index + 1}`);
    await page.getByRole('heading', { level: 1, name: title }).waitFor();
  }
  await close();
});

test('keyboard::the tab key reaches everything that can be pressed, and the focus is always seen', async () => {
  const { page, close } = await window.open('?state=needs-attention');
  await page.waitForSelector('.strip a');
  const reached = new Set();
  for (let step = 0; step < 80; step += 1) {
    await page.keyboard.press('Tab');
    const found = await page.evaluate(() => {
      const at = document.activeElement;
      if (!at || at === document.body) return null;
      const style = getComputedStyle(at);
      const ring = at.querySelector('.ring');
      const seen = style.boxShadow !== 'none' || (style.outlineStyle !== 'none' && style.outlineWidth !== '0px') || (ring !== null && getComputedStyle(ring).stroke !== 'none');
      return { name: at.getAttribute('aria-label') ?? at.textContent.trim().slice(0, 40), seen };
    });
    if (found === null) break;
    assert.ok(found.seen, `no ring around ${found.name}`);
    reached.add(found.name.replace(/\s+/g, ' '));
  }
  const names = [...reached].join('|');
  for (const name of ['Skip to the content', 'Overview', 'Audit', 'Hide names', 'Help', 'Lock', 'Pause', 'Sync now', 'Show them', 'Show locks', 'Show as table', 'All history']) {
    assert.ok(names.includes(name), `${name} is not reached: ${names}`);
  }
  await close();
});

test('keyboard::rows are walked, opened and closed, and the focus comes back', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  await page.keyboard.press('j');
  assert.equal(await focused(page), await row(page, 0));
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('j');
  assert.equal(await focused(page), await row(page, 2));
  await page.keyboard.press('k');
  assert.equal(await focused(page), await row(page, 1));
  await page.keyboard.press('Enter');
  await page.waitForSelector('aside h2');
  assert.equal(await page.evaluate(() => document.activeElement?.tagName), 'H2');
  await page.keyboard.press('Escape');
  await page.waitForSelector('aside', { state: 'detached' });
  assert.equal(await focused(page), await row(page, 1));
  await close();
});

for (const [view, hash] of [['locks', '#/locks'], ['history', '#/history'], ['audit', '#/audit']]) {
  test(`keyboard::a row of ${view} is opened and closed`, async () => {
    const { page, close } = await window.open(`?state=needs-attention${hash}`);
    await rows(page);
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.waitForSelector('aside h2');
    await page.keyboard.press('Escape');
    await page.waitForSelector('aside', { state: 'detached' });
    assert.equal(await focused(page), await row(page, 0));
    await close();
  });
}

test('keyboard::two rows are tried again after a look at what they are, and Enter twice is once', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  const wanted = [await row(page, 0), await row(page, 1)];
  for (const key of ['j', 'Space', 'j', 'Space', 'r']) await page.keyboard.press(key);
  const dialog = page.getByRole('dialog');
  await dialog.waitFor();
  assert.match(await dialog.textContent(), /Try 2 items again\?.*Selected in the whole queue.*Patient DAY4D.*Patient F5V2M/s);
  // Both keys arrive before anything is answered.
  await page.evaluate(() => {
    const yes = document.activeElement;
    yes.click();
    yes.click();
  });
  await dialog.waitFor({ state: 'detached' });
  const done = await calls(page, 'retry');
  assert.equal(done.length, 1);
  assert.deepEqual(done[0].arguments.keys, wanted);
  assert.match(done[0].arguments.token, /^[0-9a-f]{32}$/);
  await close();
});

test('keyboard::one row is tried again at once, and a held key is one try', async () => {
  const { page, close } = await window.open('?state=needs-attention&slow=50#/queue');
  await rows(page);
  await page.keyboard.press('j');
  await page.evaluate(() => {
    for (const repeat of [false, true, true]) document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'r', bubbles: true, repeat }));
    document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'r', bubbles: true }));
  });
  await page.waitForFunction(() => document.querySelector('tr[data-key]').textContent.includes('Waiting'));
  assert.equal((await calls(page, 'retry')).length, 1);
  await close();
});

test('keyboard::Escape leaves a question without doing anything', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  for (const key of ['j', 'Space', 'j', 'Space', 'r']) await page.keyboard.press(key);
  await page.getByRole('dialog').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  assert.equal((await calls(page, 'retry')).length, 0);
  assert.equal(await focused(page), await row(page, 1));
  await close();
});

test('keyboard::setting aside asks for a reason first', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  await page.keyboard.press('j');
  await page.keyboard.press('Space');
  await page.getByRole('button', { name: 'Set aside', exact: true }).focus();
  await page.keyboard.press('Enter');
  const yes = page.getByRole('dialog').getByRole('button', { name: 'Set aside' });
  assert.ok(await yes.isDisabled());
  await page.keyboard.press('Space');
  await yes.focus();
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  assert.deepEqual((await calls(page, 'set_aside')).map((call) => call.arguments.reason), ['entered-by-hand']);
  await close();
});

test('keyboard::search, help, Sync now and the pause', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  await page.keyboard.press('/');
  await page.keyboard.type('sign-in');
  await page.waitForFunction(() => document.querySelectorAll('tr[data-key]').length === 4);
  // Letters in a field are letters.
  await page.keyboard.type(' r?');
  assert.equal(await page.inputValue('[data-search]'), 'sign-in r?');
  await page.locator('main h1').click();
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Help' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.keyboard.press('Control+r');
  await page.getByRole('button', { name: 'Checking FileMaker...' }).waitFor();
  assert.equal((await calls(page, 'sync_now')).length, 1);
  await page.getByRole('button', { name: 'Pause' }).focus();
  await page.keyboard.press('Enter');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Resume' }).waitFor();
  assert.deepEqual((await calls(page, 'pause')).map((call) => call.arguments.length), ['hour']);
  await close();
});

test('keyboard::single keys can be switched off, and it is kept', async () => {
  const { page, close } = await window.open('?state=needs-attention#/queue');
  await rows(page);
  await page.keyboard.press('?');
  await page.getByLabel('Single keys work').uncheck();
  await page.keyboard.press('Escape');
  await page.keyboard.press('?');
  await page.keyboard.press('j');
  assert.equal(await page.getByRole('dialog').count(), 0);
  assert.equal(await page.locator('tr[data-key]:focus').count(), 0);
  assert.deepEqual(await page.evaluate(() => ({ ...localStorage })), { 'single-keys': 'off' });
  await close();
});

test('keyboard::the day is read stretch by stretch', async () => {
  const { page, close } = await window.open();
  await page.waitForSelector('.strip a');
  await page.locator('.strip a[tabindex="0"]').focus();
  const first = await page.evaluate(() => document.activeElement.getAttribute('aria-label'));
  await page.keyboard.press('ArrowRight');
  const second = await page.evaluate(() => document.activeElement.getAttribute('aria-label'));
  assert.notEqual(first, second);
  await page.waitForFunction((text) => document.querySelector('.strip .caption').textContent.includes(text), second);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { level: 1, name: 'History' }).waitFor();
  await page.getByRole('button', { name: 'leave this out' }).waitFor();
  await close();
});
