/**
 * What a softphone's callback throws to refuse a command.
 *
 * @typedef {import("./contract.js").CommandError} CommandError
 */
/** @type {Record<CommandError, string>} */
const BECAUSE = {
  not_connected: "no call is connected",
  not_allowed: "the softphone does not allow it",
  missing_scope: "a permission of the softphone is missing",
  expired: "it came too late",
  stale: "it was meant for another moment",
  failed: "the softphone failed",
};

export class Refused extends Error {
  /** @param {CommandError} error @param {string} detail for the person: what is missing, what to do */
  constructor(error, detail = "") {
    if (!Object.hasOwn(BECAUSE, error)) {
      throw new RangeError(`Refused: ${JSON.stringify(error)}; one of ${Object.keys(BECAUSE).join(", ")} is allowed`);
    }
    super(detail || BECAUSE[error]);
    this.name = "Refused";
    this.error = error;
    this.detail = detail || BECAUSE[error];
  }
}
