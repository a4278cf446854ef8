import { ProviderError } from "../provider-error.ts";
import type { Folder } from "./folder.ts";
import { WORKER_MARK } from "./processes.ts";

export interface SshdSettings {
  readonly folder: Folder;
  readonly workerId: string;
  readonly port: number;
  readonly tmuxDir: string;
  /** `PATH` of the worker's commands. */
  readonly path: string;
}

/**
 * An sshd that runs without root and serves one worker on loopback. The account's own files stay out (`UsePAM`, rc and
 * environment files off, `HOME` replaced). sshd reads only the first `SetEnv` line, so all variables stand on one.
 */
export function sshdConfig({ folder, workerId, port, tmuxDir, path }: SshdSettings): string {
  const environment = {
    HOME: folder.home,
    TMUX_TMPDIR: tmuxDir,
    PATH: path,
    LANG: "C.UTF-8",
    [WORKER_MARK]: workerId,
  };
  const setEnv = Object.entries(environment).map(([name, value]) => quote(`${name}=${value}`));
  return `ListenAddress 127.0.0.1:${port}
HostKey ${quote(folder.hostKey)}
PidFile ${quote(folder.sshdPid)}
AuthorizedKeysFile ${quote(folder.authorizedKeys.replaceAll("%", "%%"))}
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
AllowTcpForwarding no
DisableForwarding yes
PermitUserEnvironment no
PermitUserRC no
PrintMotd no
PrintLastLog no
LoginGraceTime 20
MaxSessions 100
ClientAliveInterval 15
ClientAliveCountMax 3
SetEnv ${setEnv.join(" ")}
`;
}

/** sshd_config has no way to write a double quote or a newline inside a value. */
function quote(value: string): string {
  if (/["\\\n\r\0]/.test(value)) {
    throw new ProviderError(
      "rejected",
      `the path ${JSON.stringify(value)} cannot stand in sshd's configuration`,
      { hint: "choose a home folder without quotes, backslashes and newlines" },
    );
  }
  return `"${value}"`;
}
