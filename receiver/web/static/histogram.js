// The histogram over time: drag over it to zoom.

import { $, make, count } from './dom.js'
import { when, second, dayAndSecond } from './time.js'
import { go } from './address.js'

let hist = null

const span = () => hist.width * hist.counts.length

// room is how many bars there is room for.
export const room = () => Math.max(20, Math.min(120, Math.floor($('bars').clientWidth / 11)))

// showHistogram shows an answer; null: there is none.
export function showHistogram(answer) {
  hist = answer?.counts?.length ? answer : null
  const bars = $('bars'), axis = $('axis')
  bars.replaceChildren()
  axis.replaceChildren()
  $('histogram').hidden = answer !== null && !hist
  if (!hist) return
  const highest = Math.max(1, ...hist.counts)
  hist.counts.forEach(n => {
    const bar = make(bars, 'span')
    const fill = make(bar, 'i')
    if (n) fill.style.height = `max(2px, ${n / highest * 100}%)`
  })
  const labels = innerWidth < 760 ? 2 : 5
  for (let i = 0; i <= labels; i++) {
    make(axis, 'span', '', when(hist.from + span() * i / labels, precision())).style.left = `${i / labels * 100}%`
  }
}

const days = { day: 'numeric', month: 'short' }, minutes = { hour: '2-digit', minute: '2-digit' }, daysAndMinutes = { ...days, ...minutes }

function precision() {
  if (hist.width >= 86400e3) return days
  if (hist.width >= 1800e3 || span() > 86400e3) return daysAndMinutes
  return hist.width < 60e3 ? second : minutes
}

function barAt(x) {
  const box = $('bars').getBoundingClientRect()
  return Math.max(0, Math.min(hist.counts.length - 1, Math.floor((x - box.left) / box.width * hist.counts.length)))
}

let dragFrom = null

function point(event) {
  if (!hist) return
  const at = barAt(event.clientX)
  const [a, b] = dragFrom === null ? [at, at] : [Math.min(at, dragFrom), Math.max(at, dragFrom)]
  ;[...$('bars').children].forEach((bar, i) => bar.classList.toggle('picked', dragFrom !== null && a <= i && i <= b))
  const n = hist.counts.slice(a, b + 1).reduce((x, y) => x + y, 0)
  const exact = ms => when(ms, dayAndSecond)
  $('pointed').textContent = `${exact(hist.from + a * hist.width)} – ${exact(hist.from + (b + 1) * hist.width)}: ${count(n)}`
  return [a, b]
}

$('bars').addEventListener('pointerdown', event => {
  if (event.button || !hist) return
  dragFrom = barAt(event.clientX)
  $('bars').setPointerCapture(event.pointerId)
  point(event)
})
$('bars').addEventListener('pointermove', point)
$('bars').addEventListener('pointerup', event => {
  if (dragFrom === null || !hist) return
  const [a, b] = point(event)
  dragFrom = null
  if (hist.width <= 1000 && a === b) return point(event) // no narrower bar
  go({
    from: new Date(hist.from + a * hist.width).toISOString(),
    to: new Date(hist.from + (b + 1) * hist.width).toISOString(),
  })
})
$('bars').addEventListener('pointercancel', () => { dragFrom = null })
$('bars').addEventListener('pointerleave', () => { if (dragFrom === null) $('pointed').textContent = '' })
addEventListener('resize', () => { if (hist) showHistogram(hist) })
