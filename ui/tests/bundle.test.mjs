// What is shipped: small, without the synthetic clinic, with one door to the platform and nothing that the content policy would refuse.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { ROOT } from './window.mjs';

const read = (folder, ending) =>
  readdirSync(join(ROOT, folder), { recursive: true })
    .filter((name) => ending.test(name))
    .map((name) => ({ name, text: readFileSync(join(ROOT, folder, name), 'utf8') }));
const weight = (files) => files.reduce((sum, { text }) => sum + gzipSync(text, { level: 9 }).length, 0) / 1024;

test('bundle::at most 120 KiB of script and 20 KiB of style', () => {
  const script = weight(read('ui/dist', /\.js$/));
  const style = weight(read('ui/dist', /\.css$/));
  console.log(`bundle: ${script.toFixed(1)} KiB of script, ${style.toFixed(1)} KiB of style, compressed`);
  assert.ok(script > 5 && script <= 120, `${script} KiB of script`);
  assert.ok(style > 1 && style <= 20, `${style} KiB of style`);
});

test('bundle::the synthetic clinic is not in it', () => {
  for (const { name, text } of read('ui/dist', /\.(js|html)$/)) {
    for (const sign of ['mockIPC', 'ynthetic North', 'Testfall', 'window.clinic']) assert.ok(!text.includes(sign), `${sign} in ${name}`);
  }
  assert.ok(read('target/ui-mock', /\.js$/).some(({ text }) => text.includes('Testfall')), 'the other build has it');
});

test('bundle::the page has no script and no style of its own', () => {
  for (const { name, text } of read('ui/dist', /\.html$/)) assert.doesNotMatch(text, /<style|style=|<script(?![^>]*src=)|\son\w+=/, name);
  for (const { name, text } of read('ui/src', /\.svelte$/)) assert.doesNotMatch(text, /\sstyle="/, name);
});

test('source::ipc.ts is the only door to the platform', () => {
  const doors = read('ui/src', /\.(ts|svelte)$/).filter(({ text }) => /@tauri-apps|__TAURI/.test(text));
  assert.deepEqual(doors.map(({ name }) => name.replaceAll('\\', '/')).filter((name) => !name.startsWith('mock/')), ['lib/ipc.ts']);
});

test('source::every command is permitted, and no other', () => {
  const asked = [...readFileSync(join(ROOT, 'ui/src/lib/ipc.ts'), 'utf8').matchAll(/invoke<.*?>\('(\w+)'/g)].map(([, name]) => name);
  const [, list] = readFileSync(join(ROOT, 'src-tauri/permissions/desk.toml'), 'utf8').match(/commands\.allow = \[(.*?)\]/s);
  const permitted = [...list.matchAll(/"(\w+)"/g)].map(([, name]) => name);
  assert.deepEqual(asked.toSorted(), permitted.toSorted());
});

test('source::a record is named in one place only', () => {
  const { text } = read('ui/src/parts', /RecordName\.svelte$/)[0];
  assert.match(text, /names\.shown/);
  for (const file of read('ui/src', /\.svelte$/)) {
    if (!file.name.endsWith('RecordName.svelte')) assert.doesNotMatch(file.text, /names\.(shown|peek)|ipc\.reveal/, file.name);
  }
});

test('source::files stay below 600 lines', () => {
  for (const { name, text } of read('ui/src', /\.(ts|svelte|css)$/)) {
    if (!name.endsWith('bindings.ts')) assert.ok(text.split('\n').length < 600, name);
  }
});
