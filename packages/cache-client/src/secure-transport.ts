// Alone in a module, because to load TLS takes longer than a short exchange that does without.
export { Agent, request } from "node:https";
