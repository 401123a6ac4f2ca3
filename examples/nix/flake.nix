{
  description = "A greeting that is built in two steps";

  outputs =
    { self }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEach =
        make:
        builtins.listToAttrs (
          map (system: {
            name = system;
            value = make system;
          }) systems
        );
    in
    {
      packages = forEach (
        system:
        let
          # Builders of nixpkgs would stand here; a shell alone needs nothing from the network.
          build =
            name: script:
            derivation {
              inherit name system;
              builder = "/bin/sh";
              args = [
                "-c"
                script
              ];
            };
        in
        rec {
          words = build "words" ''
            while read -r word; do echo "word: $word"; done < ${./words.txt} > $out
          '';
          default = build "greeting" ''
            while read -r line; do echo "$line!"; done < ${words} > $out
            echo "made from ${words}" >> $out
          '';
        }
      );
    };
}
