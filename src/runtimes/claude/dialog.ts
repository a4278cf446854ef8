import type { DialogMatch } from "../runtime.ts";
import { COMPOSER, DIALOGS } from "./vendor-data.ts";

const MAX_SCREEN = 200_000;

/**
 * Recognises a dialog by its recorded words. Null, never a guess: when none fits, or when the input box is open, where such words can only be
 * part of the conversation.
 */
export function dialogOnScreen(screen: string): DialogMatch | null {
  const shown = screen.slice(-MAX_SCREEN);
  if (COMPOSER.test(shown)) return null;
  const text = shown.replace(/\s+/g, " ");
  const shape = DIALOGS.find(({ all }) => all.every((words) => text.includes(words)));
  return shape === undefined ? null : { id: shape.id, label: shape.label };
}
