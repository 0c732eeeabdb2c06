// The keyboard.

import { $ } from './dom.js'
import { move, step, toggle, toTop } from './list.js'

const keys = {
  '/': () => { $('q').focus(); $('q').select() },
  j: () => step(1),
  k: () => step(-1),
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
  Enter: toggle,
  ' ': toggle,
  a: () => document.querySelector('.entry.current .around')?.click(),
  l: () => $('live').click(),
  g: toTop,
  '?': () => $('helpbox').showModal(),
  Escape: () => move(null),
}

addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return
  if (event.target.closest?.('input, select, textarea')) {
    if (event.key === 'Escape') event.target.blur()
    return
  }
  if (/^(Enter| )$/.test(event.key) && event.target.closest?.('button, a')) return
  if (/^( |Arrow.*)$/.test(event.key) && !event.target.closest?.('.row')) return // the browser scrolls
  if (!Object.hasOwn(keys, event.key)) return
  event.preventDefault()
  keys[event.key]()
})
