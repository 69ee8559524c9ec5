// The lines of `cargo test`, so that `cargo xtask test` counts these tests like all others.

export default async function* report(events) {
  let passed = 0;
  let failed = 0;
  let ignored = 0;
  const failures = [];
  const begun = performance.now();
  for await (const { type, data } of events) {
    if (type === 'test:stderr' || type === 'test:stdout') yield data.message;
    // Each file is a test of its own to node; only what is inside counts, unless it could not even begin.
    const file = data?.name?.endsWith('.mjs');
    if (type === 'test:pass' && data.skip !== undefined) {
      ignored += 1;
      yield `test ${data.name} ... ignored\n`;
    } else if (type === 'test:pass' && !file && data.details?.type !== 'suite') {
      passed += 1;
      yield `test ${data.name} ... ok\n`;
    } else if (type === 'test:fail' && data.details?.type !== 'suite' && !(file && data.details.error?.failureType === 'subtestsFailed')) {
      failed += 1;
      failures.push(data);
      yield `test ${data.name} ... FAILED\n`;
    }
  }
  if (failures.length > 0) yield '\nfailures:\n';
  for (const { name, details } of failures) {
    const { cause } = details.error;
    yield `\n---- ${name} ----\n${cause?.stack ?? cause ?? details.error}\n`;
  }
  const took = ((performance.now() - begun) / 1_000).toFixed(2);
  yield `\ntest result: ${failed === 0 ? 'ok' : 'FAILED'}. ${passed} passed; ${failed} failed; ${ignored} ignored; 0 measured; 0 filtered out; finished in ${took}s\n`;
}
