// JSON of values that jsonb cannot store: U+0000 and surrogates that are not part of a pair. They are encoded as
// session_json_encode() does, so that any value that JSON can express comes back as it was.
import { InvalidArgumentError } from "./errors.js";

// JSON.stringify writes these characters as escapes, and a lone surrogate only. Escapes are matched from left to
// right, so that a backslash that is itself escaped begins none.
const written = /\\(?:u(0000|0010|d[89a-f][0-9a-f]{2})|.)/g;
const read = /\\(?:u0010([0-9a-f]{4})|.)/g;

/**
 * The JSON text of a value, as jsonb takes it.
 *
 * @param {unknown} value
 * @returns {string}
 */
export function encode(value) {
  const text = JSON.stringify(value);
  if (text === undefined) throw new TypeError("the value has no JSON: " + typeof value);
  return text.includes("\\u")
    ? text.replace(written, (escape, unit) => (unit ? "\\u0010" + unit : escape))
    : text;
}

/**
 * The value of a JSON text from the store.
 *
 * @param {string} text
 * @returns {any}
 */
export function decode(text) {
  return JSON.parse(
    text.includes("\\u0010") ? text.replace(read, (escape, unit) => (unit ? "\\u" + unit : escape)) : text,
  );
}

/**
 * An id, owner or other text. A lone surrogate is refused: it would be sent as U+FFFD, and so be another id.
 *
 * @param {string} value
 * @returns {string}
 */
export function text(value) {
  if (typeof value !== "string") throw new TypeError("a string is needed, not " + typeof value);
  if (/\p{Surrogate}/u.test(value))
    throw new InvalidArgumentError("the text has a surrogate that is not part of a pair", { code: "22021" });
  return value;
}
