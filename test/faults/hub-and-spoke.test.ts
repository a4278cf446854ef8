import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { installation } from "../support/installation.ts";

/**
 * What an agent could try: every key that lies in its home or in its environment, the controller's account, a forwarding agent, and the
 * deploy key, against the door of the other worker. One line for each way in that worked.
 */
const TRY_ALL = String.raw`
door() {
  env -u SSH_AUTH_SOCK ssh -F /dev/null -p "$OTHER_PORT" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o ConnectTimeout=5 -o PreferredAuthentications=publickey,password,keyboard-interactive,none "$@" 127.0.0.1 true </dev/null 2>/dev/null
}
tries=0
try() { tries=$((tries + 1)); if door "$@"; then echo "IN: $*"; fi; }
try
for key in $(find "$HOME" -type f -size -64k 2>/dev/null | xargs grep -l -e "PRIVATE KEY" 2>/dev/null); do
  cp "$key" "$HOME/.tried" && chmod 600 "$HOME/.tried" && try -i "$HOME/.tried" -o IdentitiesOnly=yes
  rm -f "$HOME/.tried"
done
if [ -n "$SSH_AUTH_SOCK" ]; then echo "IN: an agent is forwarded"; fi
if env | grep -E "PRIVATE KEY|^SSH_AUTH_SOCK=|^ORCHESTRATOR_(HOME|TOKEN|SOCKET)="; then echo "IN: the environment holds a way"; fi
echo "tried $tries ways"
`;

test("no key and no token on a worker opens another worker", async () => {
  await using installed = installation();
  const busy = await installed.dispatch("sleep 600");
  await installed.wait(busy.run_id, "delivered");
  const port = /^ListenAddress 127\.0\.0\.1:(\d+)$/m.exec(
    readFileSync(join(installed.paths.local, "kite-1", "sshd_config"), "utf8"),
  )?.[1];
  assert.ok(port !== undefined, "the other worker's door is known");
  const spy = await installed.dispatch(`OTHER_PORT=${port}\n${TRY_ALL}`);
  assert.equal(spy.worker, "kite-2");
  const ended = await installed.wait(spy.run_id);
  assert.equal(ended.state, "completed", JSON.stringify(ended));
  const said = ended.report?.summary ?? "";
  assert.match(said, /tried \d+ ways/);
  assert.doesNotMatch(said, /IN:/);
  await installed.call("run.cancel", { run_id: busy.run_id });
  await installed.wait(busy.run_id);
});

test("the check above sees a key that lies open", async () => {
  await using installed = installation();
  const busy = await installed.dispatch("sleep 600");
  await installed.wait(busy.run_id, "delivered");
  const config = readFileSync(join(installed.paths.local, "kite-1", "sshd_config"), "utf8");
  const port = /^ListenAddress 127\.0\.0\.1:(\d+)$/m.exec(config)?.[1];
  const leaked = readFileSync(join(installed.home, "id_ed25519"), "utf8");
  const spy = await installed.dispatch(
    `cat > "$HOME/leaked" <<'KEY'\n${leaked}KEY\nOTHER_PORT=${port}\n${TRY_ALL}`,
  );
  const ended = await installed.wait(spy.run_id);
  assert.match(ended.report?.summary ?? "", /IN: -i/);
  await installed.call("run.cancel", { run_id: busy.run_id });
  await installed.wait(busy.run_id);
});
