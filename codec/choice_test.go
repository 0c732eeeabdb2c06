package codec

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A situation gives the seconds that a raw byte takes with each codec, in order: Zstd,
// S2, Raw. The figures are those of two cores, and of lines of nginx: encoding takes
// 4, 1 and 0 ns a byte, and leaves 18, 28 and 100 of 100 bytes.
type situation struct {
	name string
	cost [3]float64
}

func costs(processor, disk float64) [3]float64 {
	return [3]float64{
		4e-9*processor + 0.18*disk,
		1e-9*processor + 0.28*disk,
		1 * disk,
	}
}

var situations = []situation{
	{"a fast disk", costs(1, 0.3e-9)},
	{"a fast disk, one core for all", costs(3, 0.3e-9)},
	{"a disk of 300 MB/s", costs(1, 3.3e-9)},
	{"a disk of 50 MB/s", costs(1, 20e-9)},
	{"a link of 100 Mbit/s", costs(0, 80e-9)},
	{"a link of 10 Mbit/s", costs(0, 800e-9)},
	{"all the same", [3]float64{2e-9, 2e-9, 2e-9}},
}

// path is what bytes go through: each piece after those before it.
type path struct {
	situation
	noise float64 // how far a piece's time may be off, as a part
	tail  float64 // the part of the pieces that take five times as long
	depth int     // pieces that are on their way before the first is told of
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
		took := p.cost[map[Codec]int{Zstd: 0, S2: 1, Raw: 2}[with]] * piece * (1 + p.noise*(2*p.rnd.Float64()-1))
		if p.rnd.Float64() < p.tail {
			took *= 5
		}
		c.Took(with, piece, time.Duration(took*1e9))
		seconds += took
	}
	return seconds
}

// best is the fewest seconds that one codec alone would take for n bytes.
func (p *path) best(n int) float64 {
	return slices.Min(p.cost[:]) * float64(n) * (1 + 4*p.tail)
}

func TestChoice_IsNeverFarFromTheBest(t *testing.T) {
	const bytes = 4 << 30
	for _, s := range situations {
		for _, p := range []path{{}, {noise: 0.4}, {noise: 0.2, tail: 0.1}, {noise: 0.2, depth: 4}} {
			p.situation, p.rnd = s, rand.New(rand.NewPCG(1, 1))
			took, best := p.spend(NewChoice(S2, Zstd, S2, Raw), bytes), p.best(bytes)
			t.Logf("%s, noise %v, tail %v, depth %d: %.2f times the best", s.name, p.noise, p.tail, p.depth, took/best)
			if took > 1.1*best {
				t.Errorf("%s, noise %v, tail %v, depth %d: %.2f s, the best codec alone takes %.2f s", s.name, p.noise, p.tail, p.depth, took, best)
			}
		}
	}
}

func TestChoice_FollowsAChange(t *testing.T) {
	const bytes = 1 << 30
	c, p := NewChoice(S2, Zstd, S2, Raw), path{noise: 0.2, rnd: rand.New(rand.NewPCG(2, 2))}
	for range 3 {
		for _, s := range situations {
			p.situation = s
			p.spend(c, bytes)
			if took, best := p.spend(c, 2*bytes), p.best(2*bytes); took > 1.1*best {
				t.Errorf("after a change to %s: %.2f s, the best codec alone takes %.2f s", s.name, took, best)
			}
		}
	}
}

func TestChoice_OfEqualsTakesThePreferred(t *testing.T) {
	c, p := NewChoice(Raw, S2, Zstd, Raw), path{rnd: rand.New(rand.NewPCG(3, 3))}
	p.cost = [3]float64{2e-9, 2e-9, 2e-9}
	p.spend(c, 256<<20)
	if c.best.Codec != S2 {
		t.Errorf("took %v", c.best)
	}
}
