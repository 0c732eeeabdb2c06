package codec

import (
	"cmp"
	"slices"
	"time"
)

// Choice takes the codec with which bytes get through fastest; of those that are
// about as fast, the one that is preferred. What is scarce, be it processor, disk or
// link, shows in the time that bytes take. Choice gets that time, and tries each of
// the other codecs sometimes, so that trials take a few hundredths of the time.
// What else the machine does makes some times longer, and none shorter: the longest
// of the last times do not count.
//
// It is not safe for concurrent use.
type Choice struct {
	// FastEnough is the part of the fastest codec's speed that a preferred one must
	// reach to be taken.
	FastEnough float64

	codecs    []*candidate // in order of preference
	best      *candidate
	trial     *candidate    // what the next bytes are for; nil: best
	trialLeft int           // so many of them
	clock     time.Duration // the sum of all that was reported
	bestPace  float64       // the pace of best when it was taken; 0: not known
}

type candidate struct {
	Codec
	paces []float64     // of the last samples: nanoseconds a byte
	size  int           // bytes of the next sample
	bytes int           // reported, and not a sample yet
	took  time.Duration // by these
	due   time.Duration // on Choice.clock: when it is to be tried again
	tries int           // samples since all was forgotten
}

const (
	sampleTime    = 100 * time.Millisecond // what the bytes of a sample take, about
	sampleBytes   = 256 << 10              // bytes of a sample, at least
	samples       = 8                      // of each codec that are remembered
	minSamples    = 2                      // samples that a codec is judged by, at least,
	hopeless      = 3                      // unless its first one is so many times slower than the best
	retryBest     = 10 * sampleTime        // the pause before what was the best is tried again
	changeSamples = 4                      // samples in a row that show that something has changed
	trialPart     = 64                     // the pause between trials, in lengths of a trial,
	firstTrials   = 4                      // after this pause, which doubles each time: a start can be bad luck
	keepRatio     = 0.95                   // the part of the speed for which it was taken that keeps a codec in use
)

// NewChoice chooses from codecs, preferred ones first. It begins with begin.
func NewChoice(begin Codec, codecs ...Codec) *Choice {
	c := &Choice{FastEnough: 0.95}
	for _, codec := range codecs {
		x := &candidate{Codec: codec, size: sampleBytes}
		if c.codecs = append(c.codecs, x); codec == begin {
			c.best = x
		}
	}
	return c
}

// Codec is what the next n bytes are to be encoded with.
func (c *Choice) Codec(n int) Codec {
	if c.trial == nil {
		return c.best.Codec
	}
	with := c.trial.Codec
	if c.trialLeft -= n; c.trialLeft <= 0 {
		c.trial = nil
	}
	return with
}

// Observe reports that n bytes, before encoding, took d to get through while more
// bytes waited, and that all of them were encoded with one codec.
func (c *Choice) Observe(with Codec, n int, d time.Duration) {
	k := slices.IndexFunc(c.codecs, func(x *candidate) bool { return x.Codec == with })
	if k < 0 || n <= 0 || d <= 0 {
		return
	}
	c.clock += d
	x := c.codecs[k]
	x.bytes, x.took = x.bytes+n, x.took+d
	if x.bytes < x.size && x.took < 2*sampleTime {
		return
	}
	if x == c.trial { // it may be slow, and have more bytes to go
		c.trial = nil
	}
	pace := float64(x.took) / float64(x.bytes)
	if x != c.best && pace < x.pace()/2 { // it was slow, and may be no more
		x.paces, x.due = nil, 0
	}
	x.paces = append(x.paces[max(0, len(x.paces)-samples+1):], pace)
	x.tries++
	if x.due = max(x.due, c.clock+c.pause(x)*x.took); len(x.paces) < minSamples && pace < hopeless*c.best.pace() {
		x.due = 0 // one sample may be bad luck
	}
	x.size, x.bytes, x.took = c.sample(x), 0, 0
	c.decide()
	c.forgetIfChanged()
	c.startTrial()
}

// pause is that before the next trial of x, in lengths of the one before.
func (c *Choice) pause(x *candidate) time.Duration {
	if x.pace() > hopeless*c.best.pace() {
		return trialPart
	}
	return time.Duration(min(trialPart, firstTrials<<min(x.tries, 8)))
}

// sample is how many bytes of x are enough for a measurement.
func (c *Choice) sample(x *candidate) int {
	p := cmp.Or(x.pace(), c.best.pace())
	if p == 0 {
		return sampleBytes
	}
	return max(sampleBytes, int(float64(sampleTime)/p))
}

// pace is the mean of the last ones, but for the quarter that is longest; 0: not known.
func (x *candidate) pace() (mean float64) {
	n := (len(x.paces)*3 + 3) / 4
	for _, p := range slices.Sorted(slices.Values(x.paces))[:n] {
		mean += p / float64(n)
	}
	return mean
}

// decide takes the preferred codec of those that are about as fast as the fastest.
func (c *Choice) decide() {
	fastest := 0.0
	for _, x := range c.codecs {
		if p := x.pace(); p > 0 && (fastest == 0 || p < fastest) {
			fastest = p
		}
	}
	enough := c.best.pace() * c.FastEnough * keepRatio // no more than this of the others', for it to stay
	for _, x := range c.codecs {
		p := x.pace()
		if x == c.best && enough <= fastest {
			return
		}
		if p > 0 && p*c.FastEnough <= fastest {
			c.best.paces, c.best.due = nil, c.clock+retryBest // it may have been bad luck
			c.best, c.bestPace = x, 0
			return
		}
	}
}

// notice forgets what was known of all codecs if the last samples of best are all
// much slower, or all much faster, than when it was taken.
func (c *Choice) forgetIfChanged() {
	last := c.best.paces[max(0, len(c.best.paces)-changeSamples):]
	switch {
	case len(last) < changeSamples:
		return
	case c.bestPace == 0:
		c.bestPace = c.best.pace()
		return
	case slices.Min(last) < 2*c.bestPace && slices.Max(last) > c.bestPace/2:
		return
	}
	for _, x := range c.codecs {
		if x != c.best {
			x.paces, x.due, x.tries = nil, 0, 0
		}
	}
	c.best.paces = last
	c.bestPace = c.best.pace()
}

// try begins a trial of a codec that is due.
func (c *Choice) startTrial() {
	for _, x := range c.codecs {
		if c.trial != nil || x == c.best || c.clock < x.due {
			continue
		}
		x.size = c.sample(x)
		c.trial, c.trialLeft = x, x.size
		// If it never learns how long these took, another follows.
		x.due = c.clock + c.pause(x)*time.Duration(float64(c.trialLeft)*max(x.pace(), c.best.pace()))
	}
}
