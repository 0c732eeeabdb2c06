// What is shown follows from the state, and the state stands in the address, so
// that it can be kept and passed on.

import { zone } from './time.js'

const texts = ['q', 'from', 'to', 'order', 'zone', 'compact', 'around', 'at', 'n'], lists = ['column', 'by']

export const state = { live: true }

let changed = () => {}

// whenChanged has f called after each change of the state; back: by the browser's
// history.
export function whenChanged(f) {
  changed = f
  addEventListener('popstate', () => { readAddress(); f(true) })
}

export function readAddress() {
  const p = new URLSearchParams(location.search)
  for (const key of texts) state[key] = p.get(key) || ''
  for (const key of lists) state[key] = p.getAll(key)
  state.live = p.get('live') !== '0'
  zone.utc = state.zone === 'UTC'
}

// address gives the address of what is shown, after a change.
export function address(change) {
  const s = { ...state, ...change }, p = new URLSearchParams()
  for (const key of texts) if (s[key]) p.set(key, s[key])
  for (const key of lists) for (const value of s[key]) p.append(key, value)
  if (!s.live) p.set('live', '0')
  return p.size ? '?' + p : location.pathname
}

// linkAround gives the address of what stands around a line.
export const linkAround = ({ uid, time }) => address({ around: uid, at: time, n: '' })

export function go(change, replace) {
  const to = address(change)
  if (replace) history.replaceState(history.state, '', to)
  else {
    remember({ y: scrollY })
    history.pushState({ inside: true }, '', to)
  }
  readAddress()
  changed(false)
}

// remember keeps something of what is shown with its place in the browser's history.
export function remember(what) {
  history.replaceState({ ...history.state, ...what }, '')
}

// question is what the state asks for, as parameters, after some others.
export function question(more) {
  const p = new URLSearchParams(more)
  for (const key of ['q', 'from', 'to', 'order']) if (state[key]) p.set(key, state[key])
  for (const name of state.column) p.append('column', name)
  if (state.from || state.to || state.q) p.set('tz', zone.east())
  return p
}

// ask gives the answer to a question.
export async function ask(path, more, signal) {
  let answer
  try {
    answer = await fetch(path + '?' + (more instanceof URLSearchParams ? more : question(more)), { signal })
  } catch (err) {
    if (err.name === 'AbortError') throw err
    throw Object.assign(new Error('wsreceive does not answer.'), { away: true })
  }
  const kind = answer.headers.get('Content-Type') ?? ''
  if (!kind.startsWith('application/json')) throw new Error(await answer.text())
  const body = await answer.json()
  if (!answer.ok) throw Object.assign(new Error(body.error), { status: answer.status, logsql: body.logsql, understood: body.understood })
  return body
}
