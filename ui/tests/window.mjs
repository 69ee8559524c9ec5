// The window in Chromium: the synthetic clinic's build, served with the content policy of tauri.conf.json.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { chromium } from 'playwright-core';

export const ROOT = new URL('../..', import.meta.url).pathname;
export const SCREENS = process.env.SCREENS ?? join(ROOT, 'target/screens');
/** A Thursday morning in a clinic. */
export const NOW = new Date('2026-03-12T10:42:18');

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

async function serve(folder) {
  const conf = JSON.parse(await readFile(join(ROOT, 'tauri.conf.json'), 'utf8'));
  const server = createServer(async (request, response) => {
    if (request.url === '/favicon.ico') return response.writeHead(204).end();
    const path = normalize(new URL(request.url, 'http://localhost').pathname);
    try {
      const file = path === '/' ? '/index.html' : path;
      const body = await readFile(join(folder, file));
      response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream', 'content-security-policy': conf.app.security.csp });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return { address: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

export async function start() {
  const [server, browser] = await Promise.all([
    serve(join(ROOT, 'target/ui-mock')),
    chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--force-color-profile=srgb'] }),
  ]);

  /** A window of its own; `after` opens what was asked and waits until the last truth is on the screen. */
  async function open(query = '', { width = 960, height = 640, scheme = 'light', forced = 'none', motion = 'reduce', clock = true } = {}) {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, forcedColors: forced, reducedMotion: motion, locale: 'en-US' });
    const page = await context.newPage();
    const faults = [];
    page.on('pageerror', (error) => faults.push(`${error}`));
    page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
    await page.addInitScript(() => {
      // As tauri.conf.json's freezePrototype does.
      Object.freeze(Object.prototype);
      addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
    });
    if (clock) await page.clock.install({ time: NOW });
    const [search, hash = ''] = query.split('#');
    await page.goto(`${server.address}/${search}${hash && `#${hash}`}`);
    await page.waitForSelector('h1');
    return { page, faults, close: () => context.close() };
  }

  return { open, close: async () => (await browser.close(), server.close()) };
}
