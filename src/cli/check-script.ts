import { quoteArgument } from "../transport/quote.ts";

/** Text of `check-status-silent.sh`: needs no PATH; finds a program that moved since by its name. */
export function checkScript(input: {
  readonly home: string;
  readonly path: string;
  readonly program: readonly string[];
}): string {
  const words = input.program.map(quoteArgument).join(" ");
  const [node = "", file = ""] = [input.program[0], input.program.at(-1)].map((word) =>
    quoteArgument(word ?? ""),
  );
  return `#!/bin/sh
# check-status-silent.sh <sprite> <repo>: compares the name of the worker's agent window with its status and writes changes to the status
# log. Prints nothing. Made by 'orchestrator init', which also makes it anew.
set -u
if [ $# -ne 2 ]; then
  echo "usage: check-status-silent.sh <sprite> <repo>" >&2
  exit 2
fi
ORCHESTRATOR_HOME=${quoteArgument(input.home)}
PATH=\${PATH:+$PATH:}${quoteArgument(input.path)}
export ORCHESTRATOR_HOME PATH
if [ -x ${node} ] && [ -r ${file} ]; then
  exec ${words} check --silent -- "$1" "$2"
fi
exec orchestrator check --silent -- "$1" "$2"
`;
}
