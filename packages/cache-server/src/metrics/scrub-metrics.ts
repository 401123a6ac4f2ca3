import { Counter, Gauge, type Registry } from "prom-client";

/** What is counted of scrubs and of the quarantine. */
export interface ScrubMetrics {
  readonly countQuarantined: () => void;
  /** How many objects are in quarantine now. */
  readonly setQuarantined: (objects: number) => void;
  readonly countScrubbed: (fileSize: number) => void;
  /** Notes when a scrub last went through everything. */
  readonly setFullPass: (atMs: number) => void;
}

export function createScrubMetrics(registers: Registry[]): ScrubMetrics {
  const found = new Counter({
    name: "flywheel_objects_quarantined_total",
    help: "Stored objects that were found lost or damaged, and put in quarantine.",
    registers,
  });
  const present = new Gauge({
    name: "flywheel_objects_quarantined",
    help: "Stored objects that are in quarantine now, and not served.",
    registers,
  });
  const objects = new Counter({
    name: "flywheel_scrub_objects_total",
    help: "Stored objects whose bytes a scrub has read.",
    registers,
  });
  const bytes = new Counter({
    name: "flywheel_scrub_bytes_total",
    help: "Bytes that scrubs have read.",
    registers,
  });
  const lastFullPass = new Gauge({
    name: "flywheel_scrub_last_full_pass_timestamp_seconds",
    help: "When a scrub last went through every stored object; 0 when none has since the start.",
    registers,
  });
  return {
    countQuarantined: () => found.inc(),
    setQuarantined: (count) => present.set(count),
    countScrubbed(fileSize) {
      objects.inc();
      bytes.inc(fileSize);
    },
    setFullPass: (atMs) => lastFullPass.set(atMs / 1000),
  };
}
