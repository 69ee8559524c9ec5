// Every view in light, dark and forced colours: nothing for axe to find, nothing that the content policy refuses, and a picture of it.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { VIEWS } from './views.mjs';
import { SCREENS, start } from './window.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let window;
before(async () => {
  mkdirSync(SCREENS, { recursive: true });
  window = await start();
});
after(() => window.close());

const looks = [
  { look: 'light', scheme: 'light', forced: 'none' },
  { look: 'dark', scheme: 'dark', forced: 'none' },
  { look: 'forced', scheme: 'dark', forced: 'active' },
];

for (const { name, at, to } of VIEWS) {
  for (const { look, ...colours } of looks) {
    test(`access::${name}::${look}`, async () => {
      const { page, faults, close } = await window.open(at, colours);
      await to?.(page);
      await page.screenshot({ path: join(SCREENS, `${name}-${look}.png`) });
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run(document));
      const found = violations.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.map((node) => `${node.target}: ${node.failureSummary}`).join('\n  ')}`);
      assert.deepEqual(found, []);
      assert.deepEqual(faults, []);
      await close();
    });
  }
}

/** Narrower than any window, and what 400 % zoom makes of a wide one. */
for (const { name, at, to } of VIEWS.filter(({ name }) => !/drawer|names/.test(name))) {
  test(`access::${name}::320px`, async () => {
    const { page, close } = await window.open(at, { width: 320, height: 640 });
    await to?.(page);
    const wide = await page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      if (scrollWidth <= clientWidth) return [];
      return [...document.querySelectorAll('body *')].filter((found) => found.getBoundingClientRect().right > clientWidth + 0.5).map((found) => found.outerHTML.slice(0, 120));
    });
    assert.deepEqual(wide, []);
    await page.screenshot({ path: join(SCREENS, `${name}-320px.png`), fullPage: true });
    await close();
  });
}
