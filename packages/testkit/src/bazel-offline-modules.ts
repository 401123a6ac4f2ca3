/*
 * Stand-ins for rules that Bazel's own rules name, and that it would download: they hand on what Bazel has built in.
 */

const passOn = (...rules: readonly string[]): string =>
  rules.map((rule) => `${rule} = native.${rule}\n`).join("");

const emptyModule = (name: string): Record<string, string> => ({
  "MODULE.bazel": `module(name = "${name}")\n`,
  BUILD: "",
});

/** Modules of Bazel 7's own module graph, by name; what a package of Debian brings is not among them. */
export const OFFLINE_MODULES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  apple_support: emptyModule("apple_support"),
  protobuf: emptyModule("protobuf"),
  buildozer: emptyModule("buildozer"),
  zlib: {
    "MODULE.bazel": `module(name = "zlib")\n`,
    BUILD: `cc_library(name = "zlib", linkopts = ["-lz"], visibility = ["//visibility:public"])\n`,
  },
};

/** Repositories that Bazel 4 knows by itself, by name. */
export const OFFLINE_REPOSITORIES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  rules_cc: {
    WORKSPACE: "",
    BUILD: "",
    "cc/BUILD": `toolchain_type(name = "toolchain_type")\n`,
    "cc/defs.bzl": passOn(
      "cc_binary",
      "cc_import",
      "cc_library",
      "cc_proto_library",
      "cc_test",
      "cc_toolchain",
      "cc_toolchain_suite",
    ),
  },
  rules_java: {
    WORKSPACE: "",
    BUILD: "",
    "java/BUILD": "",
    "java/defs.bzl": passOn(
      "java_binary",
      "java_import",
      "java_library",
      "java_plugin",
      "java_runtime",
      "java_test",
      "java_toolchain",
    ),
  },
  rules_proto: {
    WORKSPACE: "",
    BUILD: "",
    "proto/BUILD": "",
    "proto/defs.bzl": passOn("proto_lang_toolchain", "proto_library"),
  },
  remote_coverage_tools: {
    WORKSPACE: "",
    BUILD: `filegroup(name = "coverage_report_generator", visibility = ["//visibility:public"])\n`,
  },
};
