import { readFileSync } from "node:fs";

// Loaded into a server before anything else: its clock goes ahead of the machine's by the milliseconds that the file
// says, read again every moment.
const file = process.env["VIRTUAL_CLOCK_FILE"] ?? "";
const realNow = Date.now.bind(Date);
let aheadMs = 0;

function read(): void {
  aheadMs = Number(readFileSync(file, "utf8"));
}

read();
setInterval(read, 20).unref();
Date.now = () => realNow() + aheadMs;
