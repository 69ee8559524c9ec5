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

const LOOKS = [
  { look: 'light', colorScheme: 'light', forcedColors: 'none' },
  { look: 'dark', colorScheme: 'dark', forcedColors: 'none' },
  { look: 'forced', colorScheme: 'dark', forcedColors: 'active' },
];

for (const { name, at, to } of VIEWS) {
  test(`access::${name}`, async () => {
    const { page, faults, close } = await window.open(at);
    await to?.(page);
    await page.evaluate(axe);
    for (const { look, ...media } of LOOKS) {
      await page.emulateMedia(media);
      await page.screenshot({ path: join(SCREENS, `${name}-${look}.png`) });
      const { violations } = await page.evaluate(() => globalThis.axe.run(document));
      const found = violations.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.map((node) => `${node.target}: ${node.failureSummary}`).join('\n  ')}`);
      assert.deepEqual(found, [], look);
    }

    // Narrower than any window: what 400 % zoom makes of a wide one.
    await page.emulateMedia({ colorScheme: 'light', forcedColors: 'none' });
    await page.setViewportSize({ width: 320, height: 640 });
    // The charts follow their width a moment later.
    const fits = () => document.documentElement.scrollWidth <= document.documentElement.clientWidth;
    await page.waitForFunction(fits, null, { timeout: 5_000 }).catch(() => {});
    const wide = await page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      if (scrollWidth <= clientWidth) return [];
      return [...document.querySelectorAll('body *')].filter((found) => found.getBoundingClientRect().right > clientWidth + 0.5).map((found) => found.outerHTML.slice(0, 120));
    });
    assert.deepEqual(wide, [], 'at 320 px');
    await page.screenshot({ path: join(SCREENS, `${name}-320px.png`), fullPage: true });
    assert.deepEqual(faults, []);
    await close();
  });
}
