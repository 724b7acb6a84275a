#!/usr/bin/env node
// A push service and a device in one: http_ece (npm) opens what was sent, Node checks who sent it. `push.py` starts it.
//
//     push.mjs $LIVE_DIR/npm
//     out: {"port":40001,"key":"BCVx...","secret":"BTBZ..."}
//     out: {"path":"/503","headers":{"ttl":"600",...},"claims":{"aud":...},"signed":true,"text":"{...}"}        for each request
//
// What it answers stands in the path: /503 is 503. Retry-After is always 7, and Location another path.
import { createECDH, createPublicKey, randomBytes, verify } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const ece = createRequire(join(process.argv[2], 'package.json'))('http_ece');

const device = createECDH('prime256v1');
const key = device.generateKeys('base64url');
const secret = randomBytes(16).toString('base64url');

/** The claims of a token of RFC 8292, and whether it was signed with the key that stands beside it. */
function vapid(header = '') {
    const [, token, point] = /^vapid t=([\w.-]+), ?k=([\w-]+)$/.exec(header) ?? [];
    if (!token) return {};
    const [head, claims, signature] = token.split('.');
    const octets = Buffer.from(point, 'base64url');
    const jwk = { kty: 'EC', crv: 'P-256', x: octets.subarray(1, 33).toString('base64url'), y: octets.subarray(33).toString('base64url') };
    const publicKey = { key: createPublicKey({ key: jwk, format: 'jwk' }), dsaEncoding: 'ieee-p1363' };
    return {
        claims: JSON.parse(Buffer.from(claims, 'base64url')),
        signed: verify('sha256', Buffer.from(`${head}.${claims}`), publicKey, Buffer.from(signature, 'base64url')),
    };
}

const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray());
    const text = ece.decrypt(body, { version: 'aes128gcm', privateKey: device, authSecret: secret }).toString();
    console.log(JSON.stringify({ path: request.url, headers: request.headers, ...vapid(request.headers.authorization), text }));
    response.writeHead(Number(request.url.slice(1)), { 'Retry-After': '7', Location: '/299' }).end('{"reason":"a test"}');
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port, key, secret })));
