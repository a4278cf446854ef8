const BLOCK = 512;

export interface TarFile {
  /** At most 100 bytes. */
  readonly name: string;
  readonly content: Uint8Array;
  /** e.g. 0o755 */
  readonly mode: number;
}

/** An uncompressed ustar archive: the files in this order, no owner, no time. The same files give the same bytes. */
export function tar(files: readonly TarFile[]): Uint8Array {
  const blocks = files.flatMap((file) => [
    header(file),
    Buffer.from(file.content),
    Buffer.alloc((BLOCK - (file.content.length % BLOCK)) % BLOCK),
  ]);
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]);
}

function header(file: TarFile): Buffer {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, "0")}\0`;
  block.write(file.name, 0, 100);
  block.write(octal(file.mode, 7), 100);
  block.write(octal(0, 7), 108);
  block.write(octal(0, 7), 116);
  block.write(octal(file.content.length, 11), 124);
  block.write(octal(0, 11), 136);
  block.write("        ", 148);
  block.write("0", 156);
  block.write("ustar\u000000", 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}
