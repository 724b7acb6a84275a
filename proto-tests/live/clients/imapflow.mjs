#!/usr/bin/env node
// imapflow (npm): list, append, fetch compared, flags, copy, search, a mailbox made and removed, and news while idling.
//
// Called NAME HOST PORT TLSPORT USER like all clients (account.py); the packages are those of package-lock.json, in $LIVE_DIR/npm.
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { strict as assert } from 'node:assert';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const SECONDS = 45; // a look comes after 30 s at the latest

const packages = join(process.env.LIVE_DIR ?? join(process.env.TMPDIR ?? tmpdir(), 'lemonade-live'), 'npm');
let ImapFlow;
try {
    ({ ImapFlow } = createRequire(join(packages, 'package.json'))('imapflow'));
} catch {
    console.log('skipped: imapflow is not installed');
    process.exit(77);
}

const [host, port, tlsPort, user] = process.argv.slice(2);
const pass = process.env.LIVE_PASSWORD ?? 'pw';

function connect(options) {
    return new ImapFlow({ host, auth: { user, pass }, logger: false, tls: { rejectUnauthorized: false }, ...options });
}

function message(subject, lines) {
    return Buffer.from(`From: joe@example.org\r\nSubject: ${subject}\r\n\r\n` + 'A line with {5} äöü\r\n'.repeat(lines));
}

async function session(options) {
    const client = connect(options);
    await client.connect();
    const mailboxes = await client.list();
    assert(mailboxes.some(mailbox => mailbox.path === 'INBOX'), 'no INBOX in the list');
    const sent = [message('one', 10), message('two', 40_000)];
    for (const one of sent) await client.append('INBOX', one, ['\\Seen']);

    const lock = await client.getMailboxLock('INBOX');
    const first = client.mailbox.exists - 1;
    for (const [index, one] of sent.entries()) {
        const got = await client.fetchOne(String(first + index), { source: true, flags: true, envelope: true, bodyStructure: true, uid: true });
        assert(got.source.equals(one), `the fetched octets of message ${index} differ`);
        assert(got.flags.has('\\Seen'), 'a flag was lost');
    }
    await client.messageFlagsAdd(String(first), ['\\Flagged']);
    assert.deepEqual(await client.search({ flagged: true, subject: 'one' }), [first]);
    const archive = await client.mailboxCreate(['Archive']);
    await client.messageCopy(`${first}:${first + 1}`, archive.path);
    assert.equal((await client.status(archive.path, { messages: true })).messages, 2);
    await client.messageDelete(String(first));
    assert.equal(client.mailbox.exists, first, 'the deletion was not told');
    lock.release();
    await client.mailboxDelete(archive.path);
    await client.logout();
}

// News while idling: mail is dropped into the store behind the proxy, and each message is told.
async function idle() {
    const watcher = connect({ port, secure: false, doSTARTTLS: false });
    await watcher.connect();
    if (!watcher.capabilities.has('IDLE')) {
        console.log('skipped: no IDLE is offered');
        process.exit(77);
    }
    await watcher.mailboxOpen('INBOX');
    const idling = watcher.idle();
    for (const subject of ['first', 'second']) {
        const news = new Promise((resolve, reject) => {
            watcher.once('exists', resolve);
            setTimeout(() => reject(new Error(`nothing of the ${subject} message was told within ${SECONDS} s`)), SECONDS * 1000).unref();
        });
        await drop(message(subject, 1));
        const told = await news;
        assert.equal(told.count, told.prevCount + 1);
    }
    await watcher.noop();
    await idling;
    const newest = await watcher.fetchOne('*', { envelope: true });
    assert.equal(newest.envelope.subject, 'second');
    await watcher.logout();
}

// Into the INBOX of our user, not through the proxy.
async function drop(octets) {
    const folder = await mkdtemp(join(tmpdir(), 'live-client-'));
    try {
        const file = join(folder, 'message');
        await writeFile(file, octets);
        const program = fileURLToPath(new URL('../servers/deliver.py', import.meta.url));
        await promisify(execFile)('python3', [program, process.env.LIVE_SERVER, user, file]);
    } finally {
        await rm(folder, { recursive: true });
    }
}

try {
    if (process.argv[6] === 'idle') {
        await idle();
    } else {
        await session({ port, secure: false, doSTARTTLS: false });
        await session({ port, secure: false });
        await session({ port: tlsPort, secure: true });
    }
} catch (error) {
    console.log(`failed: ${error.stack} ${error.responseText ?? ''}`);
    process.exit(1);
}
process.exit(0);
