import { once } from "node:events";
import { createServer, request as sendRequest } from "node:http";
import { type AddressInfo, createServer as createSocketServer } from "node:net";

import { type IdentityWorld, startIdentityWorld } from "@glorious/testkit";

/** A call of a job's set-up for its rights. */
export interface RecordedExchange {
  readonly request: Readonly<Record<string, unknown>>;
  readonly answer: { readonly grant: Readonly<Record<string, unknown>> };
}

/** A world whose server is reached by an address that writes down what jobs ask it for. */
export interface RecordingWorld extends AsyncDisposable {
  readonly world: IdentityWorld;
  readonly url: string;
  /** The exchanges since the last call. */
  take(): RecordedExchange[];
}

export async function startRecordingWorld(
  tenants: Readonly<Record<string, unknown>>,
): Promise<RecordingWorld> {
  await using opened = new AsyncDisposableStack();
  const port = await findFreePort();
  const recorded: RecordedExchange[] = [];
  const server = createServer((request, response) => {
    const sent: Buffer[] = [];
    request.on("data", (chunk: Buffer) => sent.push(chunk));
    request.on("end", () => {
      const { method, url = "/", headers } = request;
      const body = Buffer.concat(sent);
      const passed = sendRequest({ port, method, path: url, headers }, (answer) => {
        const received: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => received.push(chunk));
        answer.on("end", () => {
          const whole = Buffer.concat(received);
          if (url.endsWith("/exchange")) {
            recorded.push({
              request: JSON.parse(body.toString()) as RecordedExchange["request"],
              answer: JSON.parse(whole.toString()) as RecordedExchange["answer"],
            });
          }
          response.writeHead(answer.statusCode ?? 502, answer.headers).end(whole);
        });
      });
      passed.on("error", () => response.destroy());
      passed.end(body);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  opened.defer(async () => {
    const closed = once(server, "close");
    server.close();
    server.closeAllConnections();
    await closed;
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const world = opened.use(
    await startIdentityWorld({
      tenants,
      listen: `127.0.0.1:${port}`,
      env: { FLYWHEEL_PUBLIC_URL: url },
    }),
  );
  for (const issuer of Object.values(world.issuers)) issuer.audience = url;
  const owned = opened.move();
  return {
    world,
    url,
    take: () => recorded.splice(0),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function findFreePort(): Promise<number> {
  const server = createSocketServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
