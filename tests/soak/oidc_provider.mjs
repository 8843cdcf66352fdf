// npm oidc-provider behind the wire dialect of the Codex issuer, on a free port of loopback; prints its address.
//
//   POST /oauth/token, /oauth/revoke   JSON in, as Codex sends it; the provider's own answer out
//   POST /_soak/mint {label}           a new grant with its first tokens
//   GET  /_soak/logins                 {label: {granted, refused, alive}}
//
// Counted here, in front: the adapter's `consume` is a plain write, and no counter.

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [modules, lifetime] = [process.argv[2], Number(process.argv[3])];
const entry = createRequire(`${modules}/`).resolve('oidc-provider');
const { Provider } = await import(pathToFileURL(entry).href);

const CLIENT = 'app_EMoamEEZ73f0CkXaXp7hrann';
const SCOPE = 'openid offline_access';

// A Map instead of the provider's own memory, which forgets all but the thousand entries used last.
class Memory {
  static kept = new Map();

  constructor(model) { this.model = model; }

  key(id) { return `${this.model}:${id}`; }

  async upsert(id, payload, expiresIn) {
    Memory.kept.set(this.key(id), payload);
    if (this.model === 'AccessToken') setTimeout(() => this.destroy(id), (expiresIn + 60) * 1000).unref();
  }

  async find(id) { return Memory.kept.get(this.key(id)); }

  async consume(id) { (await this.find(id)).consumed = Math.floor(Date.now() / 1000); }

  async destroy(id) { Memory.kept.delete(this.key(id)); }

  async revokeByGrantId(grantId) {
    for (const [key, payload] of Memory.kept) {
      if (payload.grantId === grantId && key.startsWith(`${this.model}:`)) Memory.kept.delete(key);
    }
  }
}

const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const url = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(url, {
  adapter: Memory,
  clients: [{
    client_id: CLIENT,
    application_type: 'native',
    redirect_uris: ['http://localhost:1455/auth/callback'],
    grant_types: ['authorization_code', 'refresh_token'],
    token_endpoint_auth_method: 'none',
    id_token_signed_response_alg: 'ES256',
  }],
  cookies: { keys: ['the soak has no browser'] },
  jwks: { keys: [{ ...key, alg: 'ES256', use: 'sig' }] },
  rotateRefreshToken: true,
  ttl: { AccessToken: lifetime, IdToken: 3600, RefreshToken: 86400, Grant: 86400 },
  features: { devInteractions: { enabled: false }, revocation: { enabled: true } },
  findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
});

const logins = {};
const labels = new Map(); // by grant
const owners = new Map(); // labels by refresh token
provider.on('grant.revoked', (_ctx, grantId) => { logins[labels.get(grantId)].alive = false; });

async function mint({ label }) {
  const client = await provider.Client.find(CLIENT);
  const grant = new provider.Grant({ accountId: label, clientId: CLIENT });
  grant.addOIDCScope(SCOPE);
  const grantId = await grant.save();
  const common = { accountId: label, client, grantId, gty: 'authorization_code', scope: SCOPE };
  const access = await new provider.AccessToken(common).save();
  const refresh = await new provider.RefreshToken(common).save();
  logins[label] = { granted: 0, refused: 0, alive: true };
  labels.set(grantId, label);
  owners.set(refresh, label);
  return { access_token: access, refresh_token: refresh, expires_in: lifetime };
}

async function forward(path, given) {
  const answer = await fetch(url + path, { method: 'POST', body: new URLSearchParams(given) });
  return [answer.status, await answer.text()];
}

async function token(given) {
  const label = owners.get(given.refresh_token);
  const [status, text] = await forward('/token', given);
  if (label && status === 200) {
    logins[label].granted += 1;
    owners.set(JSON.parse(text).refresh_token, label);
  } else if (label) {
    logins[label].refused += 1;
  }
  return [status, text];
}

const ROUTES = {
  'POST /oauth/token': token,
  'POST /oauth/revoke': ({ token: revoked, client_id }) => forward('/token/revocation', { token: revoked, client_id }),
  'POST /_soak/mint': async (given) => [200, JSON.stringify(await mint(given))],
  'GET /_soak/logins': async () => [200, JSON.stringify(logins)],
};

const theirs = provider.callback();
server.on('request', async (request, response) => {
  const ours = ROUTES[`${request.method} ${request.url}`];
  if (!ours) {
    theirs(request, response);
    return;
  }
  const chunks = await request.toArray();
  const [status, text] = await ours(chunks.length ? JSON.parse(Buffer.concat(chunks)) : {});
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) });
  response.end(text);
});
console.log(url);
