import { CACHE_ERROR_CODES, type CacheErrorCode } from "@glorious/core";

import { SETTINGS } from "../src/config/settings.ts";
import { HTTP_STATUS } from "../src/http/error-response.ts";

/** When each code is met and what to do about it: every code has a row, or this does not compile. */
const ERRORS: Readonly<
  Record<CacheErrorCode, { readonly meaning: string; readonly next: string }>
> = {
  INVALID: {
    meaning: "The request, argument or text is malformed; the message says which part.",
    next: "Correct that part. Sending it again unchanged fails again.",
  },
  UNAUTHENTICATED: {
    meaning:
      "No valid token came along, or it gives nothing on that name. The message says why: none sent, expired, unknown key, revoked.",
    next: "`flywheel token inspect`, then send a valid token. The answer is the same whether the view exists or not.",
  },
  FORBIDDEN: {
    meaning: "The token is valid and gives something on this view, but not this.",
    next: "Ask for a token with the permission that the message names.",
  },
  NOT_FOUND: {
    meaning:
      "There is no such path, object, view or address. For a cache this is a miss, not a fault.",
    next: "Nothing, or push the path.",
  },
  METHOD_NOT_ALLOWED: {
    meaning:
      "The address exists, but not for this method; the `Allow` header lists those that work.",
    next: "Use one of them.",
  },
  CONFLICT: {
    meaning:
      "It exists already and is something else: a path with another NAR hash, a view of that name, an incomplete closure.",
    next: "Keep what is there, or delete it first. Our client takes a conflicting path as done and warns.",
  },
  CORRUPT: {
    meaning:
      "The bytes are not what they were said to be: a hash differs, a stream does not decompress, a narinfo does not parse. Nothing was stored.",
    next: "Send it again; if it stays, check the sender's copy with `nix store verify`.",
  },
  TRUNCATED: {
    meaning:
      "Fewer bytes arrived than announced; both numbers are in the message. Nothing was stored.",
    next: "Send it again; look for a proxy with a body or time limit.",
  },
  TOO_LARGE: {
    meaning: "The body, or what it decompresses to, is larger than allowed here.",
    next: "Raise the limit that the message or the hint names, or send less.",
  },
  UNSUPPORTED: {
    meaning: "The format is known but not taken here: a compression, a content type.",
    next: "Do what the hint says, such as `?compression=zstd`.",
  },
  RANGE: {
    meaning: "The range asked for lies outside the bytes there are.",
    next: "Ask again without it; `Content-Range` has the size.",
  },
  TIMEOUT: {
    meaning: "Nothing moved for longer than allowed.",
    next: "Try again; look at the network between.",
  },
  CANCELLED: {
    meaning:
      "Somebody stopped it: the client went away, or the process was told to end. HTTP clients never see it.",
    next: "Start it again.",
  },
  STORAGE_FULL: {
    meaning: "The disk or its quota is full. Nothing half-written is visible.",
    next: "Free space; what was acknowledged before is still there.",
  },
  RATE_LIMITED: {
    meaning:
      "Too many identity tokens came from this address, or for this repository, in a short time.",
    next: "Wait as long as `Retry-After` says; one exchange at a job's start is enough.",
  },
  UNAVAILABLE: {
    meaning: "The store, the index or the server cannot answer now.",
    next: "Try again later; clients of ours do so by themselves. `/readyz` says which part.",
  },
  CONFIG: {
    meaning: "A setting, flag, variable or file is wrong; the message starts with its name.",
    next: "Correct it; see configuration.md.",
  },
  INTERNAL: {
    meaning: "A defect of ours. The answer carries a request id and nothing else.",
    next: "Find the id in the server's log and report it.",
  },
};

export function renderErrorsPage(): string {
  return [
    "# Errors",
    "",
    "<!-- Made from the code: `pnpm exec vitest run --project integration reference-pages -u` writes it anew. -->",
    "",
    "Every failure has one code of a closed set. An HTTP answer carries it as",
    "",
    "```json",
    '{ "code": 422, "error": "CORRUPT", "message": "…", "hint": "…", "requestId": "0123456789abcdef" }',
    "```",
    "",
    "where `code` is the HTTP status, `error` the code below, `hint` (when there is one) what to do next, and",
    "`requestId` what the server's log has for it. A refused exchange has a `reason` beside it, see",
    "[http-api.md](http-api.md). On Attic's own routes `error` is the kind that Attic's",
    "clients know (`NoSuchCache`, `NoSuchObject`, `NotFound`, `Unauthorized`, `AccessError`,",
    "`CacheAlreadyExists`, `RequestError`, `InternalServerError`), with Attic's status where it differs:",
    "400 for damaged bytes and for a name that is taken, 422 for JSON of the wrong shape.",
    "",
    "| Code | HTTP status | Meaning | What to do |",
    "|---|---|---|---|",
    ...CACHE_ERROR_CODES.map(
      (code) =>
        `| \`${code}\` | ${HTTP_STATUS[code]} | ${ERRORS[code].meaning} | ${ERRORS[code].next} |`,
    ),
    "",
    "Nix before 2.29 repeats a failed `PUT` without rewinding its body and then hangs. It therefore gets",
    "status 501, which it takes as final, where others get 408 or a status from 500 on.",
    "",
  ].join("\n");
}

export function renderConfigurationPage(): string {
  return [
    "# Configuration of the server",
    "",
    "<!-- Made from the code: `pnpm exec vitest run --project integration reference-pages -u` writes it anew. -->",
    "",
    "A setting comes from a flag of `flywheel up`, else from its variable, else from the file given with",
    "`--config` (YAML or JSON), else it has its default. Anything unknown or malformed stops the start, and",
    "the error begins with the name of the flag, variable or key.",
    "",
    "```yaml",
    "listen: 0.0.0.0:7480",
    "data: /var/lib/flywheel",
    "publicUrl: https://cache.example.org",
    "limits:",
    "  maxNarSize: 16 GiB",
    "```",
    "",
    "Sizes take units (`64 MiB`, `1.5 GB`), durations too (`30s`, `12h`, `30d`). Relative paths in the file",
    "are relative to the file. `FLYWHEEL_SERVER`, `FLYWHEEL_TOKEN` and `FLYWHEEL_VIEW` belong to clients;",
    "the server ignores them.",
    "",
    "| Key | Variable | Default | Meaning |",
    "|---|---|---|---|",
    ...Object.values(SETTINGS).map((setting) => {
      const value =
        "default" in setting && setting.default !== "" ? `\`${setting.default}\`` : "unset";
      return `| \`${setting.key}\` | \`${setting.variable}\` | ${value} | ${setting.meaning} |`;
    }),
    "",
  ].join("\n");
}
