package buffer

import (
	"encoding/binary"
	"slices"
)

const maxIntakes = 16

// intakes are how far the last maxIntakes pipes are on disk, the newest last.
type intakes []Origin

// set notes o as the newest, if need be in the place of the oldest but for the live one.
// The slice is never changed in place: others hold it.
func (t *intakes) set(o Origin, live uint64) {
	if o.Intake == 0 {
		return
	}
	next := slices.DeleteFunc(slices.Clone(*t), func(old Origin) bool { return old.Intake == o.Intake })
	next = append(next, o)
	for len(next) > maxIntakes {
		k := 0
		if next[0].Intake == live {
			k = 1
		}
		next = slices.Delete(next, k, k+1)
	}
	*t = next
}

func (t intakes) get(id uint64) (Origin, bool) {
	k := slices.IndexFunc(t, func(o Origin) bool { return o.Intake == id && id != 0 })
	if k < 0 {
		return Origin{}, false
	}
	return t[k], true
}

const intakesLen = 8 + maxIntakes*24

func (t intakes) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b, uint64(len(t)))
	for k, o := range t {
		p := b[8+24*k:]
		le.PutUint64(p, o.Intake)
		le.PutUint64(p[8:], uint64(o.End))
		if o.Unfinished {
			p[16] = 1
		}
	}
}

func getIntakes(b []byte) (t intakes) {
	le := binary.LittleEndian
	for k := range min(le.Uint64(b), maxIntakes) {
		p := b[8+24*k:]
		t = append(t, Origin{Intake: le.Uint64(p), End: int64(le.Uint64(p[8:])), Unfinished: p[16] == 1})
	}
	return t
}
