import { writeFile, mkdir } from "node:fs/promises";
import path from "node:path";

import { type Running, start } from "./command.ts";
import { freePort } from "./free-port.ts";
import type { Tools } from "./tools.ts";

export interface Nginx extends AsyncDisposable {
  readonly url: string;
  readonly tlsUrl: string;
  /** Of the master; its workers are its children. */
  readonly pid: number;
}

export interface NginxOptions {
  readonly directory: string;
  readonly root: string;
  /** Whether it stores what is put under its root, whatever that is; default no. */
  readonly takesUploads?: boolean;
  /** Without it there is no TLS. */
  readonly certificate?: { readonly cert: string; readonly key: string };
}

/** Starts nginx with two workers on free loopback ports; everything it writes goes below `directory`. */
export async function startNginx(
  tools: Pick<Tools, "nginx" | "env">,
  options: NginxOptions,
): Promise<Nginx> {
  const { directory, root, certificate, takesUploads = false } = options;
  await mkdir(directory, { recursive: true });
  const [port, tlsPort] = [await freePort(), await freePort()];
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `  ${name}_temp_path ${path.join(directory, name)};`)
    .join("\n");
  const tls =
    certificate === undefined
      ? ""
      : `  server {
    listen 127.0.0.1:${tlsPort} ssl;
    ssl_certificate ${certificate.cert};
    ssl_certificate_key ${certificate.key};
    ssl_protocols TLSv1.2 TLSv1.3;
  }`;
  const configuration = `daemon off;
worker_processes 2;
pid ${path.join(directory, "nginx.pid")};
error_log stderr warn;
${process.getuid?.() === 0 ? "user root root;" : ""}
events { worker_connections 4096; }
http {
${temporary}
  access_log off;
  log_not_found off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  types { text/x-nix-narinfo narinfo; application/x-nix-nar zst; }
  root ${root};
${takesUploads ? "  dav_methods PUT; create_full_put_path on; client_max_body_size 0;" : ""}
  server { listen 127.0.0.1:${port}; }
${tls}
}
`;
  const file = path.join(directory, "nginx.conf");
  await writeFile(file, configuration);
  const running: Running = start(
    tools.nginx,
    ["-p", directory, "-c", file, "-e", "stderr"],
    tools.env,
  );
  const url = `http://127.0.0.1:${port}`;
  await waitUntilUp(`${url}/nix-cache-info`);
  return {
    url,
    tlsUrl: `https://127.0.0.1:${tlsPort}`,
    pid: running.pid,
    [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
  };
}

async function waitUntilUp(url: string): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      await (await fetch(url)).arrayBuffer();
      return;
    } catch (error) {
      if (attempt === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
