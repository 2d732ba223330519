// Holds a description that skerry collections openapi has printed, which is read from standard input, against the schema of OpenAPI.
import { Validator } from "@seriousme/openapi-schema-validator"

const text = await new Response(process.stdin).text()
const validator = new Validator()
const { valid, errors } = await validator.validate(JSON.parse(text))
if (!valid || validator.version !== "3.1") {
  console.error("not OpenAPI 3.1", validator.version, JSON.stringify(errors, null, 2))
  process.exit(1)
}
const paths = Object.keys(validator.resolveRefs().paths)
console.log(`ok  the description of ${paths.length} paths is OpenAPI 3.1`)
