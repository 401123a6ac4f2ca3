/** A server as the environment of a runner may name it. */
interface NamedServer {
  readonly serverUrl?: string;
  readonly token?: string;
}

/**
 * Reads what runners of the ancestor's kind have beside `ATTIC_SERVER` and `ATTIC_CACHE`, which the `flywheel` command
 * itself knows: the secret `ATTIC_TOKEN`, and `BAZEL_REMOTE_CACHE` where nothing else names a server. Not after an
 * earlier step of the same job exported it again.
 */
export function describeServer(env: Readonly<Record<string, string | undefined>>): NamedServer {
  const isGiven = (name: string): boolean => (env[name] ?? "") !== "";
  if (isGiven("FLYWHEEL_SESSION")) return {};
  const isNamed = ["FLYWHEEL_SERVER", "FLYWHEEL_RUNNER_CONFIG", "ATTIC_SERVER"].some(isGiven);
  const [bazel, token] = [env["BAZEL_REMOTE_CACHE"], env["ATTIC_TOKEN"]];
  return {
    ...(isNamed || !isGiven("BAZEL_REMOTE_CACHE") ? {} : { serverUrl: toHttp(bazel ?? "") }),
    ...(isGiven("ATTIC_TOKEN") ? { token: token ?? "" } : {}),
  };
}

/** Both protocols of our server are on one port; the path after the host is the view's. */
function toHttp(address: string): string {
  const url = address.replace(/^grpc(s?):/, "http$1:");
  return URL.canParse(url) ? new URL(url).origin : address;
}
