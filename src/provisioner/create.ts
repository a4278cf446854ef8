import { join } from "node:path";

import * as agent from "./agent.ts";
import { loadBundle } from "./bundle.ts";
import * as files from "./files.ts";
import { follow } from "./follow.ts";
import { runJob } from "./job.ts";
import { openStart } from "./open-start.ts";
import { interrupt, press } from "./press.ts";
import { probe } from "./probe.ts";
import type { Provisioner } from "./provisioner.ts";
import * as work from "./work.ts";

/**
 * The provisioner over the scripts in `scriptsDir` (default: `provision/worker` of this source tree). Reads them once; rejects
 * nothing later on when they change.
 */
export function createProvisioner(options: { readonly scriptsDir?: string } = {}): Provisioner {
  const bundle = loadBundle(
    options.scriptsDir ?? join(import.meta.dirname, "..", "..", "provision", "worker"),
  );
  return {
    bundle: bundle.hash,
    runJob: (transport, request, onLine) => runJob(transport, bundle, request, onLine),
    start: (transport, input) => agent.start(transport, bundle, input),
    openStart: (transport, input) => openStart(transport, bundle, input),
    follow: (transport, input) => follow(transport, bundle, input),
    payload: (transport, run, name) => agent.payload(transport, bundle, run, name),
    probe: (transport, session, launch) => probe(transport, bundle, session, launch),
    revoke: (transport, run, launch) => agent.revoke(transport, bundle, run, launch),
    over: (transport, run, launch) => agent.over(transport, bundle, run, launch),
    stop: (transport, input) => agent.stop(transport, bundle, input),
    screen: (transport, session) => agent.screen(transport, bundle, session),
    nameWindow: (transport, session, status, reason) =>
      agent.nameWindow(transport, bundle, session, status, reason),
    keepGuard: (transport, session) => agent.keepGuard(transport, bundle, session),
    sendKeys: (transport, session, keys) => agent.sendKeys(transport, bundle, session, keys),
    paste: (transport, session, text) => agent.paste(transport, bundle, session, text),
    press: (transport, session, expected, keys) =>
      press(transport, bundle, session, expected, keys),
    interrupt: (transport, run, launch) => interrupt(transport, bundle, run, launch),
    save: (transport, input) => work.save(transport, bundle, input),
    bundleRefs: (transport, input) => work.bundleRefs(transport, bundle, input),
    fingerprint: (transport, repo) => work.fingerprint(transport, bundle, repo),
    uncommitted: (transport, repo) => work.uncommitted(transport, bundle, repo),
    report: (transport, repo, base) => work.report(transport, bundle, repo, base),
    push: (transport, repo, branch) => work.push(transport, bundle, repo, branch),
    remoteBase: (transport, input) => work.remoteBase(transport, bundle, input),
    readJson: files.readJson,
    writeJson: files.writeJson,
    readTail: files.readTail,
    stepLog: files.stepLog,
  };
}
