// Builds the window twice, as it is and with the synthetic clinic, and runs every test of this folder, or those that are named.

import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { run } from 'node:test';
import report from './reporter.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const vite = fileURLToPath(new URL('../node_modules/vite/bin/vite.js', import.meta.url));
for (const mode of ['production', 'mock']) {
  execFileSync(process.execPath, [vite, 'build', '--mode', mode, '--logLevel', 'warn'], { cwd: join(here, '..'), stdio: 'inherit' });
}

const wanted = process.argv.slice(2);
const files = readdirSync(here)
  .filter((name) => name.endsWith('.test.mjs') && (wanted.length === 0 || wanted.some((part) => name.includes(part))))
  .map((name) => join(here, name));

const events = run({ files, concurrency: 1 });
events.on('test:fail', () => (process.exitCode = 1));
events.compose(report).pipe(process.stdout);
