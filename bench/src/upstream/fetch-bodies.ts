import { once } from "node:events";
import { Agent, get, type IncomingMessage } from "node:http";

export interface BodyFetch {
  readonly urls: readonly string[];
  readonly token: string;
  /** Made anew, as a client has to. */
  readonly connections: number;
}

/** Seconds that it takes to read bodies whose addresses are known beforehand, and to drop them. */
export async function fetchBodies({ urls, token, connections }: BodyFetch): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const headers = { authorization: `Bearer ${token}` };
  const begin = performance.now();
  try {
    await Promise.all(
      urls.map(async (url) => {
        const [response] = (await once(get(url, { agent, headers }), "response")) as [
          IncomingMessage,
        ];
        if (response.statusCode !== 200) throw new Error(`${url} is ${response.statusCode}`);
        response.resume();
        await once(response, "end");
      }),
    );
    return (performance.now() - begin) / 1000;
  } finally {
    agent.destroy();
  }
}
