package codec

import (
	"slices"
	"time"
)

// Choice takes the codec with which bytes get through fastest; of those that are
// about as fast, the one that is preferred. What is scarce, be it processor, disk or
// link, shows in the time that bytes take. Choice is told that time, and tries each of
// the other codecs now and then, so that trials take a few hundredths of the time.
//
// It is not safe for concurrent use.
type Choice struct {
	codecs []*candidate // in order of preference
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
	sampleBytes = 256 << 10 // less than this, or shorter, tells little
	sampleTime  = 10 * time.Millisecond
	blend       = 0.3  // of a new sample in the mean
	trialPart   = 64   // a trial is due again after so many times its length
	asFast      = 0.95 // a preferred codec is taken if its speed is this part of the fastest one's
	stay        = 0.9  // the one in use stays while its speed is this part of it
)

// NewChoice chooses from codecs, preferred ones first. It begins with the first.
func NewChoice(codecs ...Codec) *Choice {
	c := &Choice{}
	for _, codec := range codecs {
		c.codecs = append(c.codecs, &candidate{Codec: codec})
	}
	c.best = c.codecs[0]
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
	if x.bytes < sampleBytes || x.took < sampleTime {
		return
	}
	c.learn(x, float64(x.took)/float64(x.bytes))
	if x == c.best {
		x.due = c.clock
	}
	// More of a trial may be on its way: each sample of it puts off the next.
	x.due = max(x.due, c.clock) + trialPart*x.took
	x.bytes, x.took = 0, 0
	c.decide()
}

// learn takes a new sample of the pace of x.
func (c *Choice) learn(x *candidate, pace float64) {
	switch mean := x.pace; {
	case x != c.best || mean == 0:
	case pace < mean/2 || pace > mean*2: // something has changed: what is known of the others is old
		for _, other := range c.codecs {
			other.due = 0
		}
	default:
		pace = blend*pace + (1-blend)*mean
	}
	x.pace = pace
}

// decide takes the preferred codec of those about as fast as any, or begins a trial.
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
		if x.pace > 0 && x.pace*asFast <= fastest {
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
