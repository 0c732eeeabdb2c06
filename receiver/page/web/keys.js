// The keyboard.

import { $ } from './dom.js'
import { move, step, toggle, toTop } from './list.js'

const keys = {
  '/': () => { $('q').focus(); $('q').select() },
  j: () => step(1),
  k: () => step(-1),
  Enter: toggle,
  l: () => $('live').click(),
  g: toTop,
  '?': () => $('helpbox').showModal(),
  Escape: () => move(null),
}

addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || $('helpbox').open) return
  if (event.target.closest?.('input, select, textarea')) {
    if (event.key === 'Escape') event.target.blur()
    return
  }
  if (event.key === 'Enter' && event.target.closest?.('button, a')) return
  if (!Object.hasOwn(keys, event.key)) return
  event.preventDefault()
  keys[event.key]()
})
