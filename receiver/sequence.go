package receiver

import "sync"

// sequence says which batch is the next one. The reader checks and advances
// it; the committer rewinds it when the store diverges.
type sequence struct {
	mu      sync.Mutex
	expect  uint64 // hello.acked until the first data came
	started bool   // it came; until then any seq from expect on will do
	waiting bool   // after a nak: what is not expect is ignored
	epoch   int    // how often rewound: what was checked in another epoch is void
}

type orderResult int

const (
	next       orderResult = iota // take it
	outOfOrder                    // not the next one: nak
	ignored                       // to be expected after a nak
)

func (q *sequence) check(seq uint64) (epoch int, expect uint64, v orderResult) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.started && seq >= q.expect {
		q.started, q.expect = true, seq
	}
	switch {
	case seq == q.expect:
		v = next
	case q.waiting:
		v = ignored
	default:
		v = outOfOrder
	}
	return q.epoch, q.expect, v
}

// refuse makes the sequence wait for expect.
func (q *sequence) refuse() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = true
}

// advance moves to the end of a batch that check called next in epoch.
func (q *sequence) advance(epoch int, end uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if epoch != q.epoch {
		return false
	}
	q.expect, q.waiting = end, false
	return true
}

// rewind goes back to seq and waits for it.
func (q *sequence) rewind(seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expect, q.waiting = seq, true
	q.epoch++
}

func (q *sequence) isCurrent(epoch int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return epoch == q.epoch
}
