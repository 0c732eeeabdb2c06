package elastic_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"wsrelay/handshake"
	"wsrelay/receiver/store/elastic"
	"wsrelay/test/faults"
)

// mixed is a line of a mix of requests of nginx, messages of syslog and what
// programs write by themselves: about one in seven has a time that is none, or
// a field of another type than others.
func mixed(r *rand.Rand, i int) string {
	pick := func(values ...string) string { return values[r.IntN(len(values))] }
	switch n := r.IntN(100); {
	case n < 35:
		return elastic.SpeedLine(uint64(i))
	case n < 45:
		return fmt.Sprintf(`{"ip":"203.0.113.%d","host":"shop.example","path":"/x?%d","status":%d,"referrer":"","user_agent":"x","length":%d,"generation_time_milli":%d,"date":"%s"}`,
			i%250, i, 200+i%3*100, i, i%1000, pick("2026-11-22T23:00:00+00:00", "2026-11-22T5:00:00+00:00"))
	case n < 70:
		return fmt.Sprintf(`{"timestamp":"2026-11-22T23:00:00.%06d+00:00","host":"web1","program":"billing","pid":"%d","facility":"local7","severity":"info","priority":190,"message":"invoice %d paid","fields":{"amount":%d,"user":"u%d"}}`,
			i%1e6, i%30000, i, i%900, i%50)
	case n < 78:
		return fmt.Sprintf("plain words, number %d", i)
	case n < 83:
		return fmt.Sprintf(`{"@timestamp":"2026-11-22T23:00:00Z","level":"info","user":{"id":%d},"text":"word %d"}`, i, i)
	case n < 87:
		return fmt.Sprintf(`{"level":"info","user":"u%d","text":"word %d"}`, i%50, i) // a word where others have an object
	case n < 90:
		return fmt.Sprintf(`{"level":%d,"user":{"id":"u%d"},"text":{"is":"word %d"}}`, i%7, i%50, i)
	case n < 93:
		return fmt.Sprintf(`{"@timestamp":"%s","level":"info","text":"word %d"}`,
			pick("yesterday", "22/Nov/2026:23:00:00 +0000", "2026-11-22T5:00:00Z", "2026-11-22T23:00:00,5Z",
				"2026-11-22T23:00:00+24:00"), i)
	case n < 95:
		return fmt.Sprintf(`{"took":%s,"text":"word %d"}`, pick(`1`, `"1 s"`, `{"ms":1}`, `1.5`, `[1,"x"]`), i)
	case n < 97:
		return fmt.Sprintf(`{"when":"%s","text":"word %d"}`, pick("2026-11-22", "2026/11/22", "never", "1"), i)
	}
	return fmt.Sprintf("{\"broken\":\"%d\xff", i)
}

// What share of a mix of lines becomes dead letters, or keeps members as text
// only.
func TestEngine_MixOfLines(t *testing.T) {
	faults.Engine(t)
	const lines = 20_000
	s := newScene(t)
	sid := handshake.NewSID()
	s.sids = append(s.sids, sid)
	r := rand.New(rand.NewPCG(7, 7))
	letters := 0
	for seq := 1; seq <= lines; seq += 500 {
		result := s.commit(s.batch(sid, uint64(seq), 500, func(i int) string { return mixed(r, seq+i) }))
		letters += len(result.Rejected)
	}
	s.Logf("%d of %d lines are dead letters: %.1f %%", letters, lines, 100*float64(letters)/lines)
	s.row("mix", "requests, messages and garbage", letters, 0)
	if letters > 0 {
		s.Errorf("%d dead letters", letters)
	}
}
