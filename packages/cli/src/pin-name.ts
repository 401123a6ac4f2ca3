/** What a pin is called that was given no name: the base name of its store path. Other words are names already. */
export function pinNameOf(pathOrName: string): string {
  return pathOrName.slice(pathOrName.lastIndexOf("/") + 1);
}
