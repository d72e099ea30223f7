type Known = readonly string[] | string | null | undefined;

/** A list, a space-separated text, a JWT access token, or a function that returns one of these. */
export type Scopes = Known | (() => Known | Promise<Known>);

export function missingScopes(
  scopes: Scopes | null | undefined,
  needed: readonly string[],
): Promise<string[] | null>;
