package sqlite

import (
	"time"
)

// idleAfter is how long no Commit must have come for the store to be idle: a
// session that is busy sends the next at once, but not in no time.
const idleAfter = 5 * time.Millisecond

// chore is work that the writing goroutine does in small steps between Commits.
type chore struct {
	step   func() (more bool, err error)
	rest   int           // before the next step Commits take so many times as long, or leave as long free
	every  time.Duration // when there was nothing to do: look again; 0: after the next Commit
	told   func(err error)
	behind bool // there may be more to do
	failed bool // as the last step did
	ended  time.Time
	took   time.Duration

	busy, spare time.Duration // what Commits have taken, and left free between them, since it ended
}

// chores are what s has to do between Commits.
func (s *Store) chores() []*chore {
	// The index gets half of the time that Commits leave, and a thirtieth if they
	// leave none: it could not keep up with them anyway, and search finds what it
	// lacks.
	index := &chore{step: s.writer.index, rest: 29, behind: true, told: s.told("full-text index",
		"lines are stored and found as before, but search becomes slow",
		"look for a full or failing disk; indexing is tried again after each commit")}
	if s.retain == (Retain{}) {
		return []*chore{index}
	}
	// Half of the time, if need be: a disk that fills up would end everything.
	retain := &chore{
		step: func() (bool, error) { return s.writer.retain(s.retain, time.Now()) },
		rest: 1, every: retainEvery, behind: true, told: s.told("retention",
			"no line is deleted, and the store grows beyond its limit",
			"look for a full or failing disk; it is tried again every second"),
	}
	return []*chore{index, retain}
}

// retainEvery is how often a store is held against its limits.
const retainEvery = time.Second

// do takes a step.
func (c *chore) do() {
	start := time.Now()
	more, err := c.step()
	c.ended, c.took = time.Now(), time.Since(start)
	c.busy, c.spare = 0, 0
	c.behind = more && err == nil
	if failed := err != nil; failed != c.failed {
		c.failed = failed
		c.told(err)
	}
}

// in says when the chore is to be done if no Commit comes; -1: not before one.
func (c *chore) in(committed time.Time) time.Duration {
	switch {
	case c.behind:
		return max(0, idleAfter-time.Since(committed))
	case c.every > 0:
		return max(0, c.every-time.Since(c.ended))
	}
	return -1
}

// after is called after each Commit, with how long that took and was waited for: the chore has its turn if it has had less than its part of the time.
func (c *chore) after(busy, spare time.Duration) {
	c.busy += busy
	c.spare += spare
	switch {
	case c.every == 0:
		c.behind = true
	case !c.behind && time.Since(c.ended) < c.every:
		return
	}
	if c.spare > c.took || c.busy > time.Duration(c.rest)*c.took {
		c.do()
	}
}

// told gives a function that logs when a chore begins to fail and when it works
// again.
func (s *Store) told(chore, effect, hint string) func(error) {
	return func(err error) {
		if err == nil {
			s.log.Info("upkeep of the store resumed", "store", s.path, "chore", chore)
			return
		}
		s.log.Warn("upkeep of the store stopped", "store", s.path, "chore", chore, "err", err,
			"effect", effect, "hint", hint)
	}
}
