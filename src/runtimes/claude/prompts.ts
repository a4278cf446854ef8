import { objectField, parseObject, textField } from "../fields.ts";

/** Prompts of a transcript (JSON lines): lines of type `user` whose content is a text; a tool's result is a list. */
export function promptsOfTranscript(transcript: string): string[] {
  return transcript.split("\n").flatMap((text) => {
    const line = text.includes('"user"') ? parseObject(text) : null;
    if (line?.["type"] !== "user" || line["isMeta"] === true || line["isSidechain"] === true)
      return [];
    const message = objectField(line, "message");
    const content = message === null ? null : textField(message, "content");
    return content === null ? [] : [content];
  });
}
