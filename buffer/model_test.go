package buffer

import (
	"errors"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"wsrelay/internal/codec"
)

// TestQueue_KeepsItsInvariants drives a queue on the strict file system through
// random histories of use, faults, kills and power cuts, beside an oracle that
// knows every line.
func TestQueue_KeepsItsInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		inBubble(t, func() {
			m := newModel(rt)
			defer m.abandon()
			rt.Repeat(m.actions())
			m.finish()
		})
	})
}

// TestQueue_LosesNoMoreThanWhatIsDamaged adds what no program can prevent:
// damaged bytes, removed files, directories copied and put back.
func TestQueue_LosesNoMoreThanWhatIsDamaged(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		inBubble(t, func() {
			m := newModel(rt)
			defer m.abandon()
			actions := m.actions()
			maps.Copy(actions, m.accidents())
			rt.Repeat(actions)
			m.finish()
		})
	})
}

// model draws what happens to a world.
type model struct{ *world }

func newModel(t *rapid.T) model {
	o := Options{
		Sync:       rapid.SampledFrom([]time.Duration{0, 0, 500 * time.Millisecond}).Draw(t, "sync"),
		Codec:      rapid.SampledFrom([]*codec.Codec{nil, raw}).Draw(t, "compress"),
		DropOldest: rapid.IntRange(0, 3).Draw(t, "drop") == 0,
	}
	m := model{newWorld(t, rapid.Uint64().Draw(t, "seed"), o)}
	m.mustStart()
	return m
}

func (m model) finish() {
	m.setFault(nil)
	m.drain()
	m.restart()
	m.drain()
}

func (m model) actions() map[string]func(*rapid.T) {
	kill, cut := (*strictFS).kill, (*strictFS).powerCut
	return map[string]func(*rapid.T){
		"append":            m.appendSome,
		"skip":              func(*rapid.T) { m.skip(10) },
		"wait":              func(*rapid.T) { m.wait() },
		"deliver":           func(t *rapid.T) { m.deliver(rapid.IntRange(1, 10).Draw(t, "blocks")) },
		"ack":               func(t *rapid.T) { m.ack(rapid.IntRange(1, 10).Draw(t, "acks")) },
		"rewind":            m.rewindSome,
		"release":           func(*rapid.T) { m.release() },
		"idle":              func(*rapid.T) { m.idle() },
		"churn":             func(*rapid.T) { m.churn() },
		"fill":              m.fill,
		"restart":           func(*rapid.T) { m.restart() },
		"kill":              func(t *rapid.T) { m.crash(kill, again(t)) },
		"power cut":         func(t *rapid.T) { m.crash(cut, again(t)) },
		"dying":             func(t *rapid.T) { m.dieWithin(t, kill) },
		"losing power":      func(t *rapid.T) { m.dieWithin(t, cut) },
		"failed sync":       m.failedSync,
		"out of page cache": func(*rapid.T) { m.fs.evict() },
		"faults":            m.faults,
		"no faults":         func(*rapid.T) { m.setFault(nil) },
		"":                  func(*rapid.T) { m.check() },
	}
}

// again is the call of a recovery at which it crashes; 0: it does not.
func again(t *rapid.T) int {
	return max(0, rapid.IntRange(-20, 25).Draw(t, "again"))
}

func (m model) appendSome(t *rapid.T) {
	n := rapid.IntRange(1, 20).Draw(t, "lines")
	m.append(n, rapid.SampledFrom([]int{1, 40, 250, 700, 3000}).Draw(t, "size"))
}

func (m model) rewindSome(t *rapid.T) {
	if n := len(m.ranges); n > 0 {
		m.rewind(rapid.IntRange(0, n-1).Draw(t, "to"))
	}
}

// churn moves so much through the queue that segments are written again.
func (m model) churn() {
	for range 8 {
		m.append(4, 40<<10)
		m.wait()
		m.deliver(1000)
		m.ack(len(m.ranges))
	}
}

// fill comes to the limit and beyond.
func (m model) fill(t *rapid.T) {
	for range rapid.IntRange(1, 24).Draw(t, "times 240 KiB") {
		m.append(10, 24<<10)
	}
}

// dieWithin ends the process, or the machine, at a file call soon to come.
func (m model) dieWithin(t *rapid.T, how func(*strictFS) *strictFS) {
	m.fs.mu.Lock()
	m.fs.crashAt = m.fs.calls + rapid.IntRange(1, 12).Draw(t, "calls")
	m.fs.mu.Unlock()
	m.appendSome(t)
	m.wait()
	m.deliver(3)
	m.crash(how, again(t))
}

// failedSync is one sync that fails, what is done about it, and perhaps an end
// in the midst of that.
func (m model) failedSync(t *rapid.T) {
	failed := false
	m.mayFail(func(_ int, call, _ string) error {
		if call == "sync" && !failed {
			failed = true
			return errInjected
		}
		return nil
	})
	switch rapid.SampledFrom([]string{"continue", "continue", "kill", "kill, then cut", "cut"}).Draw(t, "then") {
	case "continue":
		m.appendSome(t)
		m.wait()
		m.setFault(nil)
	case "kill":
		m.dieWithin(t, (*strictFS).kill)
		m.fs.evict()
	case "kill, then cut":
		m.dieWithin(t, (*strictFS).kill)
		m.deliver(100)
		m.crash((*strictFS).powerCut, 0)
	case "cut":
		m.dieWithin(t, (*strictFS).powerCut)
	}
}

// faults lets one in some calls fail for a while.
func (m model) faults(t *rapid.T) {
	one := rapid.SampledFrom([]int{2, 3, 10}).Draw(t, "one in")
	err := rapid.SampledFrom([]error{errInjected, unix.ENOSPC, errShort}).Draw(t, "error")
	rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "faults"), 3))
	m.mayFail(func(_ int, call, _ string) error {
		if rnd.IntN(one) > 0 || call == "list" || call == "open" || !canFail(call, err) {
			return nil
		}
		return err
	})
}

// canFail tells whether this call fails with this error in life.
func canFail(call string, err error) bool {
	switch {
	case errors.Is(err, errShort):
		return call == "write"
	case errors.Is(err, unix.ENOSPC):
		return call == "write" || call == "create" || call == "sync" || call == "rename" || call == "mkdir" ||
			call == "syncDir"
	}
	return true
}

func (m model) accidents() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"bit flip":     func(t *rapid.T) { m.pause(t); m.damageSome(t, 1) },
		"bad sector":   func(t *rapid.T) { m.pause(t); m.damageSome(t, sector) },
		"removed file": func(t *rapid.T) { m.pause(t); m.removeSome(t) },
		"moved":        func(t *rapid.T) { m.pause(t); m.move(); m.resume(m.mustStart()) },
		"restored":     m.restoreSome,
	}
}

// pause ends the process in an orderly way, or not. What was idle is recorded.
func (m model) pause(t *rapid.T) {
	if rapid.Bool().Draw(t, "idle") {
		m.wait()
		m.idle()
	}
	if rapid.Bool().Draw(t, "killed") || !m.stop() {
		m.end1((*strictFS).kill)
	}
	m.setFault(nil)
}

func (m model) damageSome(t *rapid.T, size int) {
	names := append(m.fs.segments(), cursorName, identityName)
	name := rapid.SampledFrom(names).Draw(t, "file")
	n := len(m.fs.bytes(name))
	if n == 0 {
		m.resume(m.mustStart())
		return
	}
	off := rapid.IntRange(0, n-1).Draw(t, "offset")
	if rapid.IntRange(0, 3).Draw(t, "begin") == 0 {
		off %= min(n, pageLen+512)
	}
	off -= off % size
	rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "garbage"), 4))
	zero := rapid.Bool().Draw(t, "zero")
	m.damage(name, off, size, func(b []byte) {
		for k := range b {
			switch {
			case size == 1:
				b[k] ^= 1 << (off % 8)
			case zero:
				b[k] = 0
			default:
				b[k] = byte(rnd.Uint32())
			}
		}
	})
	m.resume(m.mustStart())
}

func (m model) removeSome(t *rapid.T) {
	names := m.fs.segments()
	if len(names) > 0 {
		m.remove(rapid.SampledFrom(names).Draw(t, "file"))
	}
	m.resume(m.mustStart())
}

// restoreSome takes a backup, continues, and puts the backup back: in its place,
// or in another.
func (m model) restoreSome(t *rapid.T) {
	m.setFault(nil)
	if !m.wait() {
		return
	}
	m.deliver(3)
	b := m.backup()
	for range rapid.IntRange(0, 3).Draw(t, "steps") {
		m.appendSome(t)
		m.wait()
		m.deliver(3)
		m.ack(2)
	}
	if rapid.Bool().Draw(t, "idle") {
		m.idle()
	}
	m.abandon()
	m.restore(b, rapid.Bool().Draw(t, "elsewhere"))
	m.resume(m.mustStart())
}
