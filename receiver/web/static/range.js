// The time of what is looked for: chosen from a list, or typed.

import { $ } from './dom.js'
import { state, go } from './address.js'
import { zone } from './time.js'

// showRange shows the time that the state has.
export function showRange() {
  const preset = [...$('range').options].find(o => o.value === state.from && !state.to)
  $('custom').textContent = `${state.from || 'the first'} – ${state.to || 'now'}`.replace(/:\d\d(\.\d+)?Z/g, 'Z')
  $('range').value = preset ? preset.value : 'custom'
}

$('range').addEventListener('change', () => {
  const { value } = $('range')
  if (value !== 'choose') return value === 'custom' || go({ from: value, to: '' })
  showRange() // until something is chosen
  $('from').value = state.from
  $('to').value = state.to
  $('timezone').textContent = zone.title()
  $('timebox').showModal()
})
$('timeform').addEventListener('submit', () => go({ from: $('from').value.trim(), to: $('to').value.trim() }))
