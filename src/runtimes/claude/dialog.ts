import type { DialogMatch } from "../runtime.ts";
import { DIALOGS } from "./vendor-data.ts";

const MAX_SCREEN = 200_000;

/** Recognises a dialog by its recorded words; a screen that shows none of them all is null, never a guess. */
export function dialogOnScreen(screen: string): DialogMatch | null {
  const text = screen.slice(-MAX_SCREEN).replace(/\s+/g, " ");
  const shape = DIALOGS.find(({ all }) => all.every((words) => text.includes(words)));
  return shape === undefined ? null : { id: shape.id, label: shape.label };
}
