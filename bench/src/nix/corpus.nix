# Realistic data, neither zeros nor noise: of each path 40 % does not compress, 30 % is base64 text, 30 % is text
# that repeats. Sizes are spread over powers of two; each path refers to up to three earlier ones. `rev` changes one
# small file in every path. The same arguments give the same bytes with every Nix version.
{ count, maxKiB, seed ? "s1", rev ? "1" }: let
  pow = i: if i == 0 then 1 else 2 * pow (i - 1); mod = a: b: a - (a / b) * b;
  ladder = builtins.filter (x: x <= maxKiB) (builtins.genList pow 19) ++ [ maxKiB ];
  rnd = i: k: (builtins.fromTOML "x = 0x${builtins.substring 0 6 (builtins.hashString "sha256" "${seed}/${toString i}/${k}")}").x;
  nodes = builtins.genList node count; node = i: builtins.derivation { name = "corpus-${toString i}"; system = builtins.currentSystem;
    builder = "/bin/sh"; PATH = "/usr/bin:/bin"; inherit rev; kib = toString (builtins.elemAt ladder (mod (rnd i "size") (builtins.length ladder)));
    deps = if i == 0 then [ ] else map (k: builtins.elemAt nodes (mod (rnd i k) i)) [ "a" "b" "c" ];
    args = [ "-c" ''mkdir -p $out; ks() { openssl enc -aes-128-ctr -nosalt -pbkdf2 -iter 1 -pass pass:${seed}${toString i} </dev/zero 2>/dev/null; }
      n=$((kib*1024*4/10)); t=$((kib*1024*3/10)); ks | head -c $n >$out/noise; ks | base64 | head -c $t >$out/text
      seq -f "%.0f symbol /usr/lib/foo.so" 1 1000000000 | head -c $t >>$out/text; for d in $deps; do echo $d >>$out/deps; done; echo $rev >$out/rev'' ]; };
in builtins.derivation { name = "corpus-top"; system = builtins.currentSystem; builder = "/bin/sh"; deps = nodes; args = [ "-c" "for d in $deps; do echo $d; done >$out" ]; }
