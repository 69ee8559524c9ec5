// Both sides of a record: what a person sees, chooses and saves, and when the values are gone from the document.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { start } from './window.mjs';

let window;
before(async () => (window = await start()));
after(() => window.close());

const calls = (page, command) => page.evaluate((name) => window.clinic.calls.filter((call) => call.command === name), command);
const text = (page) => page.evaluate(() => document.documentElement.outerHTML);
const VALUES = /SYNTHETIC|555 0100/;
const street = (page) => page.getByRole('group', { name: /^Street/ });
const phone = (page) => page.getByRole('group', { name: /^PhoneMobile/ });

/** Opens the first conflict of the list, with both sides shown. */
async function look(query = '', before = () => {}) {
  const opened = await window.open(`?conflicts=3${query}#/conflicts`);
  await opened.page.waitForSelector('tr[data-key]');
  await opened.page.keyboard.press('j');
  await opened.page.keyboard.press('Enter');
  const ask = opened.page.getByRole('button', { name: 'Show both sides' });
  await before(opened.page);
  if (!query.includes('privacy=off')) await ask.click();
  await opened.page.waitForSelector('fieldset');
  return opened;
}

test('conflicts::the list names fields and ages, and reads no value', async () => {
  const { page, close } = await window.open('?conflicts=3#/conflicts');
  await page.waitForSelector('tr[data-key]');
  assert.match(await page.locator('tbody').textContent(), /Street, PhoneMobile/);
  assert.doesNotMatch(await text(page), VALUES);
  assert.equal((await calls(page, 'sides')).length, 0);
  assert.match(await page.locator('nav').textContent(), /Conflicts\s*3\s*to decide/);
  // Queue has none of its own.
  assert.doesNotMatch(await page.locator('nav').textContent(), /need attention/);
  await close();
});

test('conflicts::with names hidden a person asks for the values first', async () => {
  const { page, close } = await window.open('?conflicts=3#/conflicts');
  await page.waitForSelector('tr[data-key]');
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Show both sides' }).waitFor();
  assert.equal((await calls(page, 'sides')).length, 0);
  assert.doesNotMatch(await text(page), VALUES);
  await close();
});

test('conflicts::nothing is chosen until somebody chooses, and only that is saved', async () => {
  const { page, close } = await look('&privacy=off');
  assert.equal(await page.locator('input:checked').count(), 0);
  assert.ok(await page.getByRole('button', { name: 'Save' }).isDisabled());
  await street(page).getByLabel('FileMaker').check();
  await page.getByText('1 of 2 fields chosen').waitFor();
  await street(page).getByRole('button', { name: /Decide later/ }).click();
  assert.equal(await page.locator('input:checked').count(), 0);
  await phone(page).getByLabel('Chart system').check();
  await page.getByRole('button', { name: 'Save' }).click();
  await phone(page).waitFor({ state: 'detached' });
  const [{ arguments: asked }] = await calls(page, 'settle');
  assert.deepEqual(asked.chosen.map(({ field, take, typed }) => [field, take, typed]), [['PhoneMobile', 'chart', null]]);
  assert.match(asked.token, /^[0-9a-f]{32}$/);
  // The other one is still there to be decided.
  assert.equal(await street(page).count(), 1);
  await close();
});

test('conflicts::by the keyboard alone, with a third value', async () => {
  const { page, close } = await look('&privacy=off');
  await page.getByRole('button', { name: 'Back to the list' }).focus();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Space');
  assert.ok(await street(page).getByLabel('Chart system').isChecked());
  await page.keyboard.press('ArrowDown');
  assert.ok(await street(page).getByLabel('FileMaker').isChecked());
  for (let step = 0; step < 12 && !(await phone(page).getByRole('radio').evaluateAll((all) => all.some((one) => one === document.activeElement))); step += 1) await page.keyboard.press('Tab');
  for (let step = 0; step < 3 && !(await phone(page).getByRole('textbox').evaluate((box) => box === document.activeElement)); step += 1) await page.keyboard.press('Tab');
  await page.keyboard.type('+1 555 0199');
  assert.ok(await phone(page).getByLabel('Neither, but this').isChecked(), 'what is typed is chosen');
  // Enter twice is one answer, however long it takes.
  await page.evaluate(() => window.clinic.options.set('slow', '300'));
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await page.clock.fastForward(1_000);
  // All is decided: back in the list, at its row.
  await page.getByRole('table', { name: 'Records that both sides changed' }).waitFor();
  const settled = await calls(page, 'settle');
  assert.equal(settled.length, 1);
  assert.deepEqual(settled[0].arguments.chosen.map(({ field, take, typed }) => [field, take, typed]), [
    ['Street', 'file-maker', null],
    ['PhoneMobile', 'typed', '+1 555 0199'],
  ]);
  await page.waitForFunction(() => document.querySelector('tr[data-key]').textContent.includes('Decided'));
  await close();
});

test('conflicts::Escape goes back to the row', async () => {
  const { page, close } = await look('&privacy=off');
  await page.keyboard.press('Escape');
  await page.waitForFunction(() => document.activeElement?.closest('tr[data-key]') !== null);
  assert.doesNotMatch(await text(page), VALUES);
  await close();
});

test('conflicts::a side that has moved meanwhile is said, shown anew, and chosen again', async () => {
  const { page, close } = await look('&privacy=off');
  await street(page).getByLabel('FileMaker').check();
  await phone(page).getByLabel('Chart system').check();
  await page.evaluate(() => window.clinic.move('Street', 'SYNTHETIC 99 Specimen Street'));
  await page.getByRole('button', { name: 'Save' }).click();
  await page.locator('.told').waitFor();
  assert.match(await page.locator('.told').textContent(), /^Street: changed after you saw it\. Nothing was written/);
  assert.match(await street(page).textContent(), /New values.*SYNTHETIC 99/s);
  assert.equal(await page.locator('input:checked').count(), 0);
  assert.equal(await phone(page).count(), 0, 'what had not moved is saved');
  await street(page).getByLabel('FileMaker').check();
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('table', { name: 'Records that both sides changed' }).waitFor();
  assert.equal((await calls(page, 'settle')).length, 2);
  await close();
});

test('conflicts::a value that a side refuses is told where it was typed, and stays', async () => {
  const { page, close } = await look('&privacy=off');
  await street(page).getByRole('textbox').fill('SYNTHETIC!');
  await page.getByRole('button', { name: 'Save' }).click();
  await street(page).getByRole('alert').waitFor();
  assert.match(await street(page).textContent(), /did not accept the value/);
  assert.equal(await street(page).getByRole('textbox').inputValue(), 'SYNTHETIC!');
  await close();
});

for (const [how, go] of [
  ['the view is left', (page) => page.keyboard.press('Control+1')],
  ['the window locks', (page) => page.evaluate(() => window.clinic.answer('lock', {}))],
  ['names are hidden', (page) => page.getByRole('switch', { name: 'Hide names' }).click()],
]) {
  test(`conflicts::the values are gone from the document when ${how}`, async () => {
    const { page, close } = await look('&privacy=off');
    await street(page).getByRole('textbox').fill('SYNTHETIC of somebody');
    assert.match(await text(page), VALUES);
    await go(page);
    await page.waitForSelector('fieldset', { state: 'detached' });
    assert.doesNotMatch(await text(page), VALUES);
    assert.equal((await page.locator('input[type=text]').evaluateAll((all) => all.filter((one) => one.value))).length, 0);
    await close();
  });
}

test('conflicts::with names hidden the values go when nobody did anything for a minute', async () => {
  const { page, close } = await look('', (page) => page.clock.pauseAt(new Date('2026-03-12T11:00:00')));
  await street(page).getByRole('textbox').focus();
  await page.keyboard.press('a');
  await page.clock.runFor(59_000);
  assert.match(await text(page), VALUES);
  await page.keyboard.press('b');
  await page.clock.runFor(59_000);
  assert.match(await text(page), VALUES);
  await page.clock.runFor(2_000);
  await page.waitForSelector('fieldset', { state: 'detached' });
  assert.doesNotMatch(await text(page), VALUES);
  await page.getByRole('button', { name: 'Show both sides' }).waitFor();
  await close();
});

test('conflicts::an answer that comes after it was left is not shown', async () => {
  const { page, close } = await window.open('?conflicts=3&slow=1500#/conflicts');
  await page.waitForSelector('tr[data-key]');
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Show both sides' }).click();
  await page.evaluate(() => ((window.clinic.options.delete('slow'), 0)));
  await page.keyboard.press('Escape');
  await page.waitForSelector('tr[data-key]');
  await page.clock.fastForward(3_000);
  assert.doesNotMatch(await text(page), VALUES);
  await close();
});

test('conflicts::no value is in a title, a label or the address', async () => {
  const { page, close } = await look('&privacy=off');
  const said = await page.evaluate(() => [document.title, location.href, ...[...document.querySelectorAll('*')].flatMap((one) => ['title', 'aria-label', 'aria-description'].map((name) => one.getAttribute(name) ?? ''))].join('\n'));
  assert.doesNotMatch(said, VALUES);
  await close();
});

test('conflicts::a clinician sees both sides and chooses nothing', async () => {
  const { page, close } = await look('&privacy=off&role=clinician');
  assert.equal(await page.getByRole('radio').count(), 0);
  assert.equal(await page.getByRole('button', { name: 'Save' }).count(), 0);
  await page.getByText('Choosing is for the front desk').first().waitFor();
  await close();
});

test('history::before and after where they are kept, else "not kept", and only when asked', async () => {
  const { page, close } = await window.open('#/history');
  await page.waitForSelector('tr[data-key]');
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  assert.doesNotMatch(await text(page), VALUES);
  await page.getByRole('button', { name: 'Show before and after' }).click();
  await page.waitForSelector('aside .caption');
  const told = await page.locator('aside').textContent();
  assert.match(told, /Before SYNTHETIC allergies of yesterday/);
  assert.match(told, /Before not kept/);
  await page.keyboard.press('Escape');
  await page.waitForSelector('aside', { state: 'detached' });
  assert.doesNotMatch(await text(page), VALUES);
  await close();
});

for (const [button, whole] of [['Replay...', false], ['Resync this patient...', true]]) {
  test(`history::${button} shows what would be written first, and does it once`, async () => {
    const { page, close } = await window.open('#/history');
    await page.waitForSelector('tr[data-key]');
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: button }).click();
    await page.waitForSelector('dialog li');
    assert.match(await page.locator('dialog').textContent(), /To FileMaker: PhoneMobile, City.*To the chart: Street/s);
    assert.equal((await calls(page, 'resync')).length, 0);
    await page.getByRole('button', { name: 'Write this' }).dblclick({ noWaitAfter: true }).catch(() => {});
    await page.waitForSelector('dialog', { state: 'detached' });
    const asked = await calls(page, 'resync');
    assert.equal(asked.length, 1);
    assert.equal(asked[0].arguments.whole, whole);
    await close();
  });
}
