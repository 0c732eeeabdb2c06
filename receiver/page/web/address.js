// What is shown follows from the state, and the state stands in the address, so
// that it can be kept and passed on.

export const state = { q: '', from: '', to: '', live: true }

let changed = () => {}

// whenChanged has f called after each change of the state.
export function whenChanged(f) {
  changed = f
  addEventListener('popstate', () => { readAddress(); f() })
}

export function readAddress() {
  const p = new URLSearchParams(location.search)
  for (const key of ['q', 'from', 'to']) state[key] = p.get(key) || ''
  state.live = p.get('live') !== '0'
}

export function go(change, replace) {
  Object.assign(state, change)
  const p = question()
  if (!state.live) p.set('live', '0')
  const address = p.size ? '?' + p : location.pathname
  if (replace) history.replaceState(null, '', address)
  else history.pushState(null, '', address)
  changed()
}

// question is the state as parameters, after some others.
export function question(more) {
  const p = new URLSearchParams(more)
  for (const key of ['q', 'from', 'to']) if (state[key]) p.set(key, state[key])
  return p
}

// ask gives the answer to the question.
export async function ask(path, more, signal) {
  const answer = await fetch(path + '?' + question(more), { signal })
  const kind = answer.headers.get('Content-Type') ?? ''
  if (!kind.startsWith('application/json')) throw new Error(await answer.text())
  const body = await answer.json()
  if (!answer.ok) throw Object.assign(new Error(body.error), { status: answer.status, logsql: body.logsql, understood: body.understood })
  return body
}
