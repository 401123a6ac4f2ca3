export { loadSettings, type LoadOptions } from "./config/load-settings.ts";
export {
  SETTINGS,
  type ServerSettings,
  type Setting,
  type SettingName,
} from "./config/settings.ts";
export { type EmbeddedOptions, type EmbeddedPlane, startEmbedded } from "./embedded.ts";
export { type CacheServer, type ServerParts, startCacheServer } from "./server.ts";
