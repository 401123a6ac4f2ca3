/** Something a person has to change before the set-up can go on; its message is all they need to read. */
export class SetUpFailure extends Error {
  name = "SetUpFailure";
}
