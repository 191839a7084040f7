// Errors of calls, by SQLSTATE. The list of codes is in docs/reference.md.

/**
 * What a call failed with. `code` is the SQLSTATE; undefined if the server did not answer. `cause` is the error of the
 * driver. (An errno is no code of ours: express-session takes ENOENT for a missing session, and logs the user out.)
 */
export class SessionStoreError extends Error {
  /**
   * @param {string} message
   * @param {{ code?: string, detail?: string, hint?: string, cause?: unknown }} [fields]
   */
  constructor(message, { code, detail, hint, cause } = {}) {
    super(message, { cause });
    this.name = new.target.name;
    this.code = code;
    this.detail = detail;
    this.hint = hint;
  }
}

/** The version, or the last messages, are not the expected ones: read again, then retry. */
export class ConflictError extends SessionStoreError {}
/** The session was logged out, and its id cannot be used yet. */
export class DeadSessionError extends SessionStoreError {}
/** The operationId was used with other arguments. */
export class OperationReusedError extends SessionStoreError {}
/** The turn is not held any more, or one is required. */
export class TurnLostError extends SessionStoreError {}
/** The owner has too many sessions. */
export class QuotaError extends SessionStoreError {}
/** The document, message or filter is too large. */
export class TooLargeError extends SessionStoreError {}
/** The caller may not do this. */
export class NotAllowedError extends SessionStoreError {}
/** There is no such namespace. */
export class NoNamespaceError extends SessionStoreError {}
/** A bad argument. */
export class InvalidArgumentError extends SessionStoreError {}
/** The server cannot be reached, is shutting down, or there was no free connection in time. */
export class UnavailableError extends SessionStoreError {}

/** @type {Record<string, typeof SessionStoreError>} */
const classes = {
  40001: ConflictError,
  SST10: DeadSessionError,
  SST11: OperationReusedError,
  SST12: TurnLostError,
  53400: QuotaError,
  54000: TooLargeError,
  42501: NotAllowedError,
  42704: NoNamespaceError,
  53300: UnavailableError,
};

/** @param {string} code */
function classOf(code) {
  if (classes[code]) return classes[code];
  if (code.startsWith("22")) return InvalidArgumentError;
  if (code.startsWith("08") || code.startsWith("57P")) return UnavailableError;
  return SessionStoreError;
}

/**
 * The error of a call, made from what the driver threw: one with an SQLSTATE is the server's answer, any other means
 * that there was none.
 *
 * @param {any} error
 * @returns {SessionStoreError}
 */
export function toStoreError(error) {
  if (error instanceof SessionStoreError) return error;
  const { message = String(error), code, detail, hint } = error ?? {};
  const answered = typeof code === "string" && /^(?=.*\d)[0-9A-Z]{5}$/.test(code);
  const ErrorClass = answered ? classOf(code) : UnavailableError;
  return new ErrorClass(message, { code: answered ? code : undefined, detail, hint, cause: error });
}
