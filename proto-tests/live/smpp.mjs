#!/usr/bin/env node
// An SMSC: node-smpp (npm) takes messages, and says what becomes of them. `smpp.py` starts it.
//
//     smpp.mjs $LIVE_DIR/npm [KEY CERTIFICATE]
//     out: {"port":40001}
//     out: {"to":"447700900101","from":"MEM","ton":5,"esm_class":64,"data_coding":4,"udh":"...","message":"..."}        for each message
//
// The password is "secret". What becomes of a message stands in the last two digits of its number:
//
//     01   taken; delivered, as the parameters of the receipt say          10, 11   refused with this status
//     02   taken; not delivered, as its text says, in another notation     58       refused once for want of time, then as 01
//     03   as 01, and the receipt overtakes the response                   77       no answer, and the connection is gone
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [, , folder, key, certificate] = process.argv;
const smpp = createRequire(join(folder, 'package.json'))('smpp');
let last = 25, throttled = false;

function receipt(session, pdu, id) {
    const well = !pdu.destination_addr.endsWith('02');
    const text = `id:${well ? id : String(parseInt(id, 16)).padStart(10, '0')} sub:001 dlvrd:00${well ? 1 : 0} submit date:2611301200 done date:2611301201 `
        + `stat:${well ? 'DELIVRD' : 'UNDELIV'} err:000 text:`;
    const parameters = well ? { receipted_message_id: id, message_state: 2, network_error_code: Buffer.from([3, 0, 0]) } : {};
    session.deliver_sm({
        source_addr_ton: 1, source_addr_npi: 1, source_addr: pdu.destination_addr, destination_addr: pdu.source_addr,
        esm_class: smpp.ESM_CLASS.MC_DELIVERY_RECEIPT, short_message: text, ...parameters,
    });
}

function submitted(session, pdu) {
    const { udh = [], message } = pdu.short_message;
    const hex = octets => Buffer.from(octets).toString('hex');
    console.log(JSON.stringify({
        to: pdu.destination_addr, from: pdu.source_addr, ton: pdu.source_addr_ton, esm_class: pdu.esm_class, data_coding: pdu.data_coding,
        registered_delivery: pdu.registered_delivery, udh: udh.map(hex), message: Buffer.isBuffer(message) ? hex(message) : message,
    }));
    const kind = pdu.destination_addr.slice(-2);
    if (kind === '77') return session.destroy();
    if (kind === '10' || kind === '11') return session.send(pdu.response({ command_status: Number(kind) }));
    if (kind === '58' && !throttled) {
        throttled = true;
        return session.send(pdu.response({ command_status: smpp.ESME_RTHROTTLED }));
    }
    const id = (++last).toString(16).toUpperCase();
    if (kind === '03') receipt(session, pdu, id);
    session.send(pdu.response({ message_id: id }), () => kind === '03' || receipt(session, pdu, id));
}

const tls = key ? { key: readFileSync(key), cert: readFileSync(certificate) } : {};
const server = smpp.createServer(tls, session => {
    session.on('bind_transceiver', pdu => {
        const command_status = pdu.password === 'secret' ? 0 : smpp.ESME_RINVPASWD;
        session.send(pdu.response({ command_status, system_id: 'node' }));
    });
    session.on('submit_sm', pdu => submitted(session, pdu));
    session.on('enquire_link', pdu => session.send(pdu.response()));
    session.on('unbind', pdu => session.send(pdu.response(), () => session.close()));
    session.on('error', () => session.destroy());
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
