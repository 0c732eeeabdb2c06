package codec

import (
	"math/rand/v2"
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

// spend lets n bytes through in pieces and gives the seconds that it took; noise is
// how far a piece's time may be off, as a part.
func spend(c *Choice, s situation, n int, noise float64, rnd *rand.Rand) (seconds float64) {
	const piece = 512 << 10
	for ; n > 0; n -= piece {
		with := c.Codec()
		took := s.cost[map[Codec]int{Zstd: 0, S2: 1, Raw: 2}[with]] * piece * (1 + noise*(2*rnd.Float64()-1))
		c.Took(with, piece, time.Duration(took*1e9))
		seconds += took
	}
	return seconds
}

func TestChoice_IsNeverFarFromTheBest(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	const bytes = 1 << 30
	for _, s := range situations {
		for _, noise := range []float64{0, 0.4} {
			took := spend(NewChoice(Zstd, S2, Raw), s, bytes, noise, rnd)
			best := min(s.cost[0], s.cost[1], s.cost[2]) * bytes
			t.Logf("%s, noise %v: %.2f times the best", s.name, noise, took/best)
			if took > 1.1*best {
				t.Errorf("%s, noise %v: %.2f s, the best codec alone takes %.2f s", s.name, noise, took, best)
			}
		}
	}
}

func TestChoice_FollowsAChange(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	c := NewChoice(Zstd, S2, Raw)
	for range 3 {
		for _, s := range situations {
			spend(c, s, 4<<30, 0.2, rnd)
			took, best := spend(c, s, 1<<30, 0.2, rnd), min(s.cost[0], s.cost[1], s.cost[2])*(1<<30)
			if took > 1.1*best {
				t.Errorf("after a change to %s: %.2f s, the best codec alone takes %.2f s", s.name, took, best)
			}
		}
	}
}

func TestChoice_OfEqualsTakesTheSmallest(t *testing.T) {
	c := NewChoice(Zstd, S2, Raw)
	spend(c, situation{cost: [3]float64{2e-9, 2e-9, 2e-9}}, 256<<20, 0, rand.New(rand.NewPCG(3, 3)))
	if c.best.Codec != Zstd {
		t.Errorf("took %v", c.best)
	}
}
