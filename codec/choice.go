package codec

import (
	"slices"
	"time"
)

// Choice takes the codec with which bytes get through fastest, and of those that
// are about as fast the one that makes the fewest bytes: what is scarce, be it
// processor, disk or link, shows in the time that bytes take, and what is not
// scarce is spent. It is told how long bytes took, and tries each of the other
// codecs now and then, so that trials take a few hundredths of the time.
//
// It is not safe for concurrent use.
type Choice struct {
	codecs []*candidate // from the fewest bytes to the most
	best   *candidate
	now    *candidate    // best, or the one on trial
	clock  time.Duration // the sum of all that was told
}

type candidate struct {
	Codec
	pace  float64       // nanoseconds a byte, a moving mean; 0: not known
	bytes int           // told, and not yet in pace
	took  time.Duration // by these
	due   time.Duration // on Choice.clock: when it is to be tried again
}

const (
	sample    = 1 << 20 // bytes: what less takes tells little
	blend     = 0.3     // of a new sample in the mean
	trialPart = 64      // a trial is due again after so many times its length
	worth     = 0.95    // a smaller codec is taken if it is as fast as this part of the fastest
	stay      = 0.9     // the one in use stays while it is as fast as this part of it
)

// NewChoice chooses from codecs, which are in order: the first makes the fewest
// bytes. It begins with the one at index first.
func NewChoice(first int, codecs ...Codec) *Choice {
	c := &Choice{}
	for _, codec := range codecs {
		c.codecs = append(c.codecs, &candidate{Codec: codec})
	}
	c.best = c.codecs[first]
	c.now = c.best
	return c
}

// Codec is what the next bytes are to be encoded with.
func (c *Choice) Codec() Codec { return c.now.Codec }

// Took says that n bytes, before encoding, took d to get through while more
// waited behind them, and that all of them were encoded with one codec.
func (c *Choice) Took(with Codec, n int, d time.Duration) {
	k := slices.IndexFunc(c.codecs, func(x *candidate) bool { return x.Codec == with })
	if k < 0 || n <= 0 || d <= 0 {
		return
	}
	c.clock += d
	x := c.codecs[k]
	x.bytes, x.took = x.bytes+n, x.took+d
	if x.bytes < sample {
		return
	}
	pace := float64(x.took) / float64(x.bytes)
	x.due = c.clock + trialPart*x.took
	switch mean := x.pace; {
	case x != c.best || mean == 0:
	case pace < mean/2 || pace > mean*2: // something has changed: what is known of the others is old
		for _, other := range c.codecs {
			other.due = 0
		}
	default:
		pace = blend*pace + (1-blend)*mean
	}
	x.pace, x.bytes, x.took = pace, 0, 0
	c.decide()
}

// decide takes the smallest codec that is about as fast as any, or begins a trial.
func (c *Choice) decide() {
	fastest := c.best.pace
	for _, x := range c.codecs {
		if x.pace > 0 && (fastest == 0 || x.pace < fastest) {
			fastest = x.pace
		}
	}
	if c.best.pace*stay > fastest || c.best.pace == 0 {
		c.best = nil
	}
	for _, x := range c.codecs {
		if x == c.best {
			break
		}
		if x.pace > 0 && x.pace*worth <= fastest {
			c.best = x
			break
		}
	}
	c.now = c.best
	for _, x := range c.codecs {
		if x != c.best && c.clock >= x.due {
			c.now = x
			return
		}
	}
}
