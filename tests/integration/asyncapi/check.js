// Validates AsyncAPI documents by the official JSON Schema: node check.js FILE...
// Prints one line of JSON for each file: the errors that there are, none where it is valid.
const { readFileSync } = require("fs");
const Ajv = require("ajv");
const addFormats = require("ajv-formats");

const ajv = new Ajv({ strict: false, allErrors: false });
addFormats(ajv);
const validate = ajv.compile(require("@asyncapi/specs/schemas/3.0.0-without-$id.json"));
for (const file of process.argv.slice(2)) {
  const valid = validate(JSON.parse(readFileSync(file, "utf8")));
  console.log(JSON.stringify(valid ? [] : validate.errors.slice(0, 5)));
}
