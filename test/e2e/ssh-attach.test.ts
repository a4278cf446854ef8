import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";

import { quoteCommand } from "../../src/transport/quote.ts";
import { cli, controllerProcess, MAIN } from "../support/controller-process.ts";
import { hostInput } from "../support/ssh-fleet.ts";
import { sshInstallation, type SshInstallation } from "../support/ssh-installation.ts";
import { until } from "../support/wait.ts";

const missing = spawnSync("ssh", ["-V"]).error === undefined ? null : "there is no ssh here";

/** A terminal of 33 rows and 99 columns in which the operator attaches. */
function terminal(installed: SshInstallation, verb: "attach" | "console" = "attach") {
  const words = verb === "attach" ? ["attach", "kite-1"] : ["console", "-s", "kite-1"];
  const command = `stty rows 33 cols 99; ${quoteCommand([process.execPath, MAIN, ...words])}`;
  const child = spawn("script", ["-qfec", command, "/dev/null"], {
    env: { ...installed.env, TERM: "xterm-256color", TMUX: "/an/operator,1,0", SHELL: "/bin/sh" },
    stdio: ["pipe", "pipe", "pipe"],
  });
  let shown = "";
  child.stdout.on("data", (chunk: Buffer) => (shown += chunk.toString()));
  return { child, shown: () => shown, over: once(child, "exit") };
}

for (const tty of [true, false]) {
  const how = tty ? "sshd gives a terminal" : "sshd gives no terminal";
  void test(
    `an operator stands in the worker's tmux over SSH where ${how}, and leaves it`,
    { skip: missing ?? false },
    async () => {
      await using installed = sshInstallation();
      const { machines } = installed;
      const gate = await machines.machine("gate", { forwards: true });
      const host = await machines.machine("mini", { tty });
      installed.hosts([hostInput(host, { jump: [{ host: gate.address, port: gate.port }] })]);
      await using _controller = await controllerProcess(installed);
      const made = await cli(installed, ["worker", "create", "--repo", "kite"]);
      assert.equal(made.code, 0, made.stderr);
      const tmux = async (...args: string[]) =>
        (
          await cli(installed, [
            "worker",
            "exec",
            "kite-1",
            "--",
            "env",
            `TMUX_TMPDIR=${host.home}/.orchestrator/tmux`,
            "tmux",
            ...args,
          ])
        ).stdout;

      const printed = await cli(installed, ["attach", "kite-1", "--print"]);
      assert.equal(printed.code, 0, printed.stderr);
      assert.match(
        printed.stdout,
        tty ? /^ssh -F \S+\/mini\.conf -t worker -- 'cd "\$HOME" && exec env / : /^sh -c '/,
      );

      const attached = terminal(installed);
      await until(
        async () =>
          (await tmux(
            "list-clients",
            "-t",
            "=kite-dev",
            "-F",
            "#{client_width}x#{client_height} #{client_utf8}",
          )) === "99x33 1\n",
        {
          what: "an attached client of the right size",
          timeoutMs: 30_000,
        },
      ).catch((error: unknown) => {
        throw new Error(attached.shown(), { cause: error });
      });
      attached.child.stdin.write("echo 'typed' $((40 + 2))\r");
      await until(
        async () => /typed 42/.test(await tmux("capture-pane", "-p", "-t", "=kite-dev:0")),
        { what: "what was typed" },
      );
      assert.equal(
        (await cli(installed, ["worker", "busy", "kite-1"])).code,
        0,
        "an attached operator keeps it busy",
      );
      // Ctrl-b d
      attached.child.stdin.write("\u0002d");
      await attached.over;
      assert.equal(attached.child.exitCode, 0, attached.shown());
      assert.match(await tmux("has-session", "-t", "=kite-dev"), /^$/);

      const shell = terminal(installed, "console");
      shell.child.stdin.write("stty size; tmux -u display-message -p -t =kite-dev: 'in #S'\r");
      await until(() => /33 99[^]*in kite-dev/.test(shell.shown()), {
        what: "a shell of the right size that finds the session",
        timeoutMs: 30_000,
      }).catch((error: unknown) => {
        throw new Error(shell.shown(), { cause: error });
      });
      shell.child.stdin.write("exit\r");
      await shell.over;
      assert.equal((await cli(installed, ["worker", "destroy", "kite-1"])).code, 0);
    },
  );
}
