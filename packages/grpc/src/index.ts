export { attachSocket } from "./attach-socket.ts";
export { type CallReceiver, type CancelReason, type ServerCall, unary } from "./call-receiver.ts";
export type { CallEnd, CallStart, ClientCall, ClientReceiver } from "./client-call.ts";
export {
  type ClientConnection,
  type ClientConnectionOptions,
  createClientConnection,
} from "./client-connection.ts";
export type { GrpcTransport } from "./grpc-connection.ts";
export type { HeaderList } from "./hpack/header-list.ts";
export type { ConnectionEnd } from "./http2/connection-core.ts";
export { type ConnectionLimits, DEFAULT_LIMITS } from "./http2/limits.ts";
export { keepStatus, type KeptStatus } from "./kept-status.ts";
export type { MemoryLease, MemoryWish, RequestMemory } from "./request-memory.ts";
export type { Metadata } from "./metadata.ts";
export {
  createServerConnection,
  type ServerConnection,
  type ServerConnectionOptions,
} from "./server-connection.ts";
export { GRPC_STATUS } from "./status.ts";
export { type SniffedProtocol, sniffProtocol } from "./sniff-protocol.ts";
