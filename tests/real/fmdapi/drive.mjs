// Drives a FileMaker Data API with a public client: node drive.mjs URL ACCOUNT PASSWORD
// The server is the project's simulator with its synthetic clinic, without records. Ends with 0 if all went as the client
// understands the API, otherwise with the first difference.

import assert from "node:assert/strict";
import { DataApi, FetchAdapter, FileMakerError } from "@proofkit/fmdapi";

const [server, username, password] = process.argv.slice(2);
// It warns where a page is smaller than what was found, which is meant here.
console.warn = () => {};

let token = null;
let logins = 0;
const tokenStore = {
  getToken: () => token,
  setToken: (_, fresh) => {
    token = fresh;
    logins += 1;
  },
  clearToken: () => {
    token = null;
  },
};
const adapter = new FetchAdapter({ server, db: "Clinic", auth: { username, password }, tokenStore });
const patients = DataApi({ adapter, layout: "API_Patient" });
const fails = (code) => (error) => error instanceof FileMakerError && error.code === code;
const patient = (key, more = {}) => ({ FhirId: key, LastName: "Testpatient", FirstName: "Synthetic", ...more });

const layouts = await patients.layouts();
assert.deepEqual(
  layouts.layouts.map((layout) => layout.name),
  ["API_Patient", "API_IntakeForm", "API_Measurement", "API_ProgressNote"],
);
assert.deepEqual((await patients.scripts()).scripts, []);
const { fieldMetaData, portalMetaData } = await patients.layoutMetadata();
assert.equal(fieldMetaData.find((field) => field.name === "BirthDate").result, "date");
assert.deepEqual(portalMetaData, {});

const made = await patients.create({ fieldData: patient("K-1", { BirthDate: "02/03/1990", Active: 1, Email: "a@example.org" }) });
assert.equal(typeof made.recordId, "string");
assert.equal(made.modId, "0");
await assert.rejects(patients.create({ fieldData: patient("k-1") }), fails("504"));

const { data: got, dataInfo } = await patients.get({ recordId: made.recordId });
assert.deepEqual([dataInfo.database, dataInfo.table, dataInfo.foundCount], ["Clinic", "Patient", 1]);
assert.equal(got[0].fieldData.BirthDate, "02/03/1990");
assert.equal(got[0].fieldData.Active, 1);
assert.equal(got[0].fieldData.MRN, "");

const edited = await patients.update({ recordId: made.recordId, modId: 0, fieldData: { City: "Sampletown" } });
assert.equal(edited.modId, "1");
await assert.rejects(patients.update({ recordId: made.recordId, modId: 0, fieldData: { City: "Late" } }), fails("306"));
await assert.rejects(patients.update({ recordId: made.recordId, fieldData: { Nope: "x" } }), fails("102"));

for (let n = 2; n <= 130; n += 1) {
  await patients.create({ fieldData: patient(`K-${n}`, { City: n % 2 ? "Odd" : "Even" }) });
}
const one = await patients.findOne({ query: { FhirId: "==K-7" } });
assert.equal(one.data.fieldData.FhirId, "K-7");
assert.equal(await patients.maybeFindFirst({ query: { FhirId: "==K-999" } }), null);
await assert.rejects(patients.find({ query: { FhirId: "==K-999" } }), fails("401"));
assert.equal((await patients.find({ query: { Email: "==a\\@example.org" } })).data.length, 1);

const even = await patients.find({ query: { City: "==Even" }, limit: 3, offset: 2, sort: [{ fieldName: "FhirId", sortOrder: "descend" }] });
assert.deepEqual([even.dataInfo.foundCount, even.dataInfo.returnedCount, even.dataInfo.totalRecordCount], [65, 3, 130]);
assert.ok(even.data[0].fieldData.FhirId > even.data[1].fieldData.FhirId);
const left = await patients.findAll({ query: [{ City: "*" }, { City: "==Even", omit: "true" }] });
assert.equal(left.length, 65);
const iso = await patients.find({ query: { FhirId: "==K-1" }, dateformats: "ISO8601" });
assert.equal(iso.data[0].fieldData.BirthDate, "1990-02-03");
assert.match(iso.data[0].fieldData.ModifiedAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$/);

assert.equal((await patients.list()).data.length, 100);
const all = await patients.listAll({ limit: 50, sort: [{ fieldName: "FhirId" }] });
assert.equal(new Set(all.map((record) => record.recordId)).size, 130);

await patients.delete({ recordId: made.recordId });
await assert.rejects(patients.get({ recordId: made.recordId }), fails("101"));
await assert.rejects(patients.executeScript({ script: "Nope" }), fails("104"));
assert.deepEqual(await patients.globals({ globalFields: { "Patient::gNote": "x" } }), {});

// A dead token: the client signs in again and repeats.
assert.equal(logins, 1);
token = "dead";
await patients.list({ limit: 1 });
assert.equal(logins, 2);
await adapter.disconnect();
assert.equal(token, null);

const stranger = new FetchAdapter({ server, db: "Clinic", auth: { username, password: "wrong" } });
await assert.rejects(DataApi({ adapter: stranger, layout: "API_Patient" }).list(), fails("212"));
console.log("driven: 130 records made");
