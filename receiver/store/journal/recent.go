package journal

import "sync"

// recentLines is how many checksums are kept in memory, 16 bytes each.
const recentLines = 1 << 20

// recent has the checksums of lines that were committed lately, of all streams.
// A line has its place by its number, and a newer one may take the place.
type recent struct {
	mu   sync.Mutex
	sums []recentSum // guarded by mu
}

type recentSum struct {
	seq    uint64
	stream uint32 // Journal-wide number of the stream, from 1 on
	sum    uint32
}

func (r *recent) at(stream uint32, seq uint64) *recentSum {
	return &r.sums[(seq+uint64(stream)*0x9E3779B97F4A7C15)%uint64(len(r.sums))]
}

func (r *recent) put(stream uint32, seq uint64, sums []uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, sum := range sums {
		seq := seq + uint64(i)
		*r.at(stream, seq) = recentSum{seq, stream, sum}
	}
}

// get calls f with the checksum of each line from one number up to another.
func (r *recent) get(stream uint32, from, to uint64, f func(seq uint64, sum uint32)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for seq := from; seq < to; seq++ {
		if e := r.at(stream, seq); e.stream == stream && e.seq == seq {
			f(seq, e.sum)
		}
	}
}
