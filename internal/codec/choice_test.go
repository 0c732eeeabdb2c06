package codec

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// A situation is how long a raw byte takes with each codec, in order Zstd, S2, Raw, in
// seconds. The figures are those of two cores, and of lines of nginx.
type situation struct {
	name      string
	processor float64 // times the encoding of what an idle core takes
	disk      float64 // or link: seconds a byte
}

var (
	encoding = [3]float64{4e-9, 1e-9, 0.1e-9}
	leaves   = [3]float64{0.18, 0.28, 1}
	column   = map[Codec]int{Zstd: 0, S2: 1, Raw: 2}
)

// cost is of the processor, and of the disk or link.
func (s situation) cost(k int) (processor, disk float64) {
	return s.processor * encoding[k], s.disk * leaves[k]
}

// best is the fewest seconds that a byte takes with one codec alone.
func (s situation) best() float64 {
	best := math.Inf(1)
	for k := range encoding {
		processor, disk := s.cost(k)
		best = min(best, processor+disk)
	}
	return best
}

var situations = []situation{
	{"a fast disk", 1, 0.3e-9},
	{"a fast disk, one core for all", 3, 0.3e-9},
	{"a disk of 300 MB/s", 1, 3.3e-9},
	{"a disk of 50 MB/s", 1, 20e-9},
	{"a disk of 20 MB/s", 1, 50e-9},
	{"a link of 100 Mbit/s", 0.1, 80e-9},
	{"a link of 10 Mbit/s", 0.1, 800e-9},
}

// path is what bytes go through: each piece after those before it.
type path struct {
	situation
	noise float64 // how far a piece's time may be off, as a part
	tail  float64 // the part of the pieces that take five times as long
	burst float64 // seconds that a disk lets pass before they are to be waited for, all at once
	owed  float64 // of these
	depth int     // pieces that are on their way before the first is reported
	rnd   *rand.Rand
	away  []Codec
}

// spend lets n bytes through in pieces and gives the seconds that it took.
func (p *path) spend(c *Choice, n int) (seconds float64) {
	const piece = 512 << 10
	for ; n > 0; n -= piece {
		p.away = append(p.away, c.Codec(piece))
		if len(p.away) <= p.depth {
			continue
		}
		with := p.away[0]
		p.away = p.away[1:]
		processor, disk := p.cost(column[with])
		if p.burst > 0 {
			p.owed += disk * piece
			if disk = 0; p.owed > p.burst {
				disk, p.owed = p.owed/piece, 0
			}
		}
		took := (processor + disk) * piece * (1 + p.noise*(2*p.rnd.Float64()-1))
		if p.rnd.Float64() < p.tail {
			took *= 5
		}
		c.Observe(with, piece, time.Duration(took*1e9))
		seconds += took
	}
	return seconds
}

func TestChoice_IsNeverFarFromTheBest(t *testing.T) {
	const runs = 24 // with other luck each
	for _, s := range situations {
		for _, p := range []path{
			{},
			{noise: 0.4},
			{noise: 0.2, tail: 0.1},
			{noise: 0.2, depth: 4},
			{noise: 0.2, burst: 0.08},
		} {
			took, worst := 0.0, 0.0
			const best = 20 // seconds
			p.situation = s
			for i := range uint64(runs) {
				p.rnd, p.away = rand.New(rand.NewPCG(1, i)), nil
				times := p.spend(NewChoice(S2, Zstd, S2, Raw), int(best/s.best())) / (best * (1 + 4*p.tail))
				took, worst = took+times/runs, max(worst, times)
			}
			name := fmt.Sprintf("%s, noise %v, tail %v, depth %d, burst %v", s.name, p.noise, p.tail, p.depth, p.burst)
			t.Logf("%s: %.2f times what the best codec alone takes, at worst %.2f", name, took, worst)
			if took > 1.1 {
				t.Errorf("%s: %.2f times, want at most 1.1", name, took)
			}
		}
	}
}

func TestChoice_FollowsAChange(t *testing.T) {
	c, p := NewChoice(S2, Zstd, S2, Raw), path{noise: 0.2, rnd: rand.New(rand.NewPCG(2, 2))}
	for range 3 {
		for _, s := range situations {
			p.situation = s
			const best = 10 // seconds
			p.spend(c, int(best/2/s.best()))
			if took := p.spend(c, int(best/s.best())); took > 1.1*best {
				t.Errorf("after a change to %s: %.2f s, the best codec alone takes %d s", s.name, took, best)
			}
		}
	}
}

// What else happens when a program starts can make the faster one look slow, twice.
func TestChoice_GetsOverABadStart(t *testing.T) {
	c := NewChoice(Zstd, Raw, Zstd)
	const piece, zstd, raw = 512 << 10, 4e-9, 2e-9 // seconds a byte
	took, pieces := 0.0, 0
	for ; took < 4; pieces++ {
		with, pace := c.Codec(piece), zstd
		if with == Raw {
			if pace = raw; took < 0.5 {
				pace = 2 * zstd
			}
		}
		c.Observe(with, piece, time.Duration(pace*piece*1e9))
		took += pace * piece
	}
	if best := 4 / (raw * piece); float64(pieces) < 0.7*best {
		t.Errorf("%d pieces in 4 s, where the faster one alone gets %.0f through", pieces, best)
	}
}

func TestChoice_OfEqualsTakesThePreferred(t *testing.T) {
	c := NewChoice(Raw, S2, Zstd, Raw)
	for range 100 {
		c.Observe(c.Codec(1<<20), 1<<20, time.Second)
	}
	if c.best.Codec != S2 {
		t.Errorf("took %v", c.best)
	}
}
