/**
 * Tells which OAuth scopes a token lacks, where the page lets it be known.
 *
 * A page may give its scopes as a list, as the space-separated text of OAuth, as a JWT access token that carries them,
 * or as a function that returns one of these, at once or later. Genesys Cloud's own access tokens are opaque: nothing
 * can be read from one, and "not known" is a different answer from "lacks none".
 */

/** How long an answer may take: a command must be answered within a second. */
const TIMEOUT_MS = 500;

/**
 * Returns those of `needed` that are not there; null when the scopes are not known.
 *
 * @param {import("./scopes.js").Scopes | null | undefined} scopes
 * @param {readonly string[]} needed
 * @returns {Promise<string[] | null>}
 */
export async function missingScopes(scopes, needed) {
  const held = await known(scopes);
  return held && needed.filter((scope) => !held.has(scope));
}

/** @param {import("./scopes.js").Scopes | null | undefined} scopes */
async function known(scopes) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, TIMEOUT_MS, null)));
  try {
    return readScopes(await Promise.race([typeof scopes === "function" ? scopes() : scopes, late]));
  } catch (error) {
    console.warn("mutebridge: the scopes could not be had", error);
    return null;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {unknown} scopes
 * @returns {Set<string> | null}
 */
function readScopes(scopes) {
  if (Array.isArray(scopes)) return new Set(scopes);
  if (typeof scopes !== "string" || !scopes.trim()) return null;
  const claims = claimsOf(scopes);
  if (claims) return readScopes(claims.scope ?? claims.scp ?? claims.scopes);
  const words = scopes.trim().split(/[\s,]+/);
  // One long word without a colon is an opaque token, not a list of one.
  return words.length === 1 && /^[\w-]{40,}$/.test(scopes.trim()) ? null : new Set(words);
}

/**
 * What a JWT says, unverified: it is only asked why a softphone refused; null for what is none.
 *
 * @param {string} token
 * @returns {Record<string, unknown> | null}
 */
function claimsOf(token) {
  const parts = token.split(".");
  if (parts.length !== 3 || /\s/.test(token.trim())) return null;
  try {
    return Object(JSON.parse(atob(parts[1].replaceAll("-", "+").replaceAll("_", "/"))));
  } catch {
    return {};
  }
}
