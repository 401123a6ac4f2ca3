/**
 * A small workspace with what remote caches meet: outputs of one action that are inputs of the next, C++, a directory
 * as an output, an empty file, something above a megabyte, and a test.
 */
export const SAMPLE_WORKSPACE: Readonly<Record<string, string>> = {
  BUILD: `
load(":directory.bzl", "directory")

genrule(name = "greeting", outs = ["greeting.txt"], cmd = "echo hello > $@")
genrule(name = "twice", srcs = ["greeting.txt"], outs = ["twice.txt"], cmd = "cat $< $< > $@")
genrule(name = "empty", outs = ["empty.txt"], cmd = ": > $@")
genrule(name = "big", outs = ["big.txt"], cmd = "seq 1 400000 > $@")
genrule(name = "says", outs = ["says.txt"], cmd = "echo to standard output; echo to standard error >&2; echo x > $@")
directory(name = "tree")
genrule(name = "of_tree", srcs = [":tree"], outs = ["of_tree.txt"], cmd = "cat $(location :tree)/a/b/one > $@")
cc_library(name = "three", srcs = ["three.cc"], hdrs = ["three.h"])
cc_binary(name = "main", srcs = ["main.cc"], deps = [":three"])
sh_test(name = "passes", srcs = ["passes.sh"], data = ["twice.txt"])
`,
  "directory.bzl": `
def _directory(ctx):
    tree = ctx.actions.declare_directory(ctx.label.name)
    ctx.actions.run_shell(
        outputs = [tree],
        command = "mkdir -p $1/a/b && echo one > $1/a/b/one && echo two > $1/two && ln -s two $1/link",
        arguments = [tree.path],
    )
    return [DefaultInfo(files = depset([tree]))]

directory = rule(implementation = _directory)
`,
  "three.h": "int three();\n",
  "three.cc": `#include "three.h"\nint three() { return 3; }\n`,
  "main.cc": `#include "three.h"\nint main() { return three() - 3; }\n`,
  "passes.sh": "#!/bin/sh\nexit 0\n",
};
