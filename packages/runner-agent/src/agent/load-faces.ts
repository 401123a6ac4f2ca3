import type { BazelFace, BazelFaceOptions } from "../bazel-face/start-bazel-face.ts";
import type { NixFace, NixFaceOptions } from "../nix-face/start-nix-face.ts";

// Each is loaded when it is started: a set-up needs neither of them, and a job of Nix nothing of what Bazel speaks.

/** Loads both, for an agent that has nothing else to do. */
export async function loadFaces(): Promise<void> {
  await Promise.all([
    import("../nix-face/start-nix-face.ts"),
    import("../bazel-face/start-bazel-face.ts"),
  ]);
}

/** Starts what Nix reads from, once its modules are there. */
export async function startNixFace(options: NixFaceOptions): Promise<NixFace> {
  const face = await import("../nix-face/start-nix-face.ts");
  return face.startNixFace(options);
}

/** Starts what Bazel reads from and writes to, once its modules are there. */
export async function startBazelFace(options: BazelFaceOptions): Promise<BazelFace> {
  const face = await import("../bazel-face/start-bazel-face.ts");
  return face.startBazelFace(options);
}
