package row

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// The library silently drops rows of a block, also later when it merges blocks, if
	// the names of all fields of the block and those of one row are more than 2,000. A
	// block is of one stream. So the rows of one program have at most so many names,
	// our own and those of fixed forms of text apart, which are below 60.
	maxNames = 900

	maxShapes   = 1000     // of one program
	maxSkeleton = 16 << 10 // bytes
	maxCached   = 16 << 20 // bytes of the shapes that a Coder, or the table for Text, has at hand
)

// Skeletons is a durable table of byte strings. Number gives the number of one, a
// new one if need be; ok is false if there is no space. It may be called concurrently.
type Skeletons interface {
	Number(skeleton []byte) (n uint32, ok bool)
	Skeleton(n uint32) ([]byte, error) // an error: it is not there, or damaged
	Len() int                          // numbers are below it
}

// Options of a Table. The zero value has the usual limits.
type Options struct {
	MaxAge  time.Duration  // of a line's own time at its arrival; 0: 30 days
	Zone    *time.Location // of times that name none; nil: UTC
	FarDays int            // days that lines of a stream may name in a segment, far from their arrival; 0: 8
	Raw     bool           // a row has its line beside the fields: its reader has no skeletons
	Streams int            // pairs of host and program that a sender's lines may name in a day; 0: 10,000
}

// Table is what Coders share. An entry of its durable part is a program, a zero byte
// and a skeleton.
type Table struct {
	opts  Options
	store Skeletons

	mu         sync.Mutex // guards the fields below
	programs   map[string]*program
	shapes     map[uint32]*shape // by number, for Text
	segment    string
	shapeBytes int
	far        map[string]map[int64]bool // by stream and day of arrival: days, in the segment
	day        int64
	streams    map[string]map[string]bool // by sender: host and program, in the day of arrival
}

// program is what the rows of one program have in common; lines without a program
// have one by their host.
type program struct {
	names  map[string]bool // of fields
	shapes map[string]uint32
}

// Open reads the skeletons.
func Open(store Skeletons, o Options) (*Table, error) {
	o.MaxAge = cmp.Or(o.MaxAge, 30*24*time.Hour)
	o.Zone = cmp.Or(o.Zone, time.UTC)
	o.FarDays = cmp.Or(o.FarDays, 8)
	o.Streams = cmp.Or(o.Streams, 10_000)
	t := &Table{opts: o, store: store, programs: map[string]*program{}, shapes: map[uint32]*shape{}}
	for n := range store.Len() {
		entry, err := store.Skeleton(uint32(n))
		if err != nil {
			continue // its rows cannot be built again, which Text says
		}
		name, skeleton, ok := strings.Cut(string(entry), "\x00")
		if !ok || len(skeleton) < 2 || skeleton[0] != tagJSON && skeleton[0] != tagText {
			return nil, fmt.Errorf("skeleton %d is none", n)
		}
		t.enterLocked(name, newShape(skeleton), uint32(n))
	}
	return t, nil
}

// Coder gives a Coder. One goroutine may use it at a time.
func (t *Table) Coder() *Coder {
	return &Coder{table: t, cache: map[string]*cached{}}
}

// enterLocked notes that the shape of a program has a number. Open needs no lock.
func (t *Table) enterLocked(name string, s *shape, n uint32) {
	p := t.programs[name]
	if p == nil {
		p = &program{names: map[string]bool{}, shapes: map[string]uint32{}}
		t.programs[name] = p
	}
	p.shapes[s.skeleton] = n
	for name := range s.fieldNames {
		p.names[name] = true
	}
}

// grant says what the rows of a program may have of a shape.
type grant struct {
	number uint32
	ok     bool   // the shape has the number
	left   []bool // values that get no field; nil: none
}

// grant gives the shape a number. If there is no space for it, the fields whose
// names the program has already are granted.
func (t *Table) grant(name string, s *shape) grant {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.programs[name]
	if p == nil {
		p = &program{}
	}
	if n, ok := p.shapes[s.skeleton]; ok {
		return grant{number: n, ok: true}
	}
	fresh := 0
	for name := range s.fieldNames {
		if !p.names[name] {
			fresh++
		}
	}
	if len(p.names)+fresh <= maxNames && len(p.shapes) < maxShapes && len(s.skeleton) <= maxSkeleton {
		if n, ok := t.store.Number([]byte(name + "\x00" + s.skeleton)); ok {
			t.enterLocked(name, s, n)
			return grant{number: n, ok: true}
		}
	}
	g := grant{left: make([]bool, len(s.values))}
	for i := range s.values {
		g.left[i] = !p.names[s.values[i].name]
	}
	return g
}

// shape gives the shape of a number.
func (t *Table) shape(n uint32) (*shape, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.shapes[n]; s != nil {
		return s, nil
	}
	entry, err := t.store.Skeleton(n)
	if err != nil {
		return nil, err
	}
	_, skeleton, ok := strings.Cut(string(entry), "\x00")
	if !ok || skeleton == "" || skeleton[0] != tagJSON {
		return nil, fmt.Errorf("skeleton %d is none of a line", n)
	}
	s := newShape(skeleton)
	if t.shapeBytes += s.bytes(); t.shapeBytes > maxCached {
		clear(t.shapes)
		t.shapeBytes = s.bytes()
	}
	t.shapes[n] = s
	return s, nil
}

// hasFarDay reports whether a row may be stored under a day far from its arrival.
// A segment's records give the same answers each time that they are taken in order.
func (t *Table) hasFarDay(l *Line, day int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.segment != l.Segment || t.far == nil {
		t.segment, t.far = l.Segment, map[string]map[int64]bool{}
	}
	key := fmt.Sprint(l.SID, " ", dayOf(l.At))
	days := t.far[key]
	if days == nil {
		days = map[int64]bool{}
		t.far[key] = days
	}
	if !days[day] && len(days) >= t.opts.FarDays {
		return false
	}
	days[day] = true
	return true
}

// hasStream reports whether the sender of a line may name this host and program for
// a stream of the database.
func (t *Table) hasStream(l *Line, stream string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if day := dayOf(l.At); t.streams == nil || day > t.day {
		t.day, t.streams = day, map[string]map[string]bool{}
	}
	of := t.streams[l.SID]
	if of == nil {
		of = map[string]bool{}
		t.streams[l.SID] = of
	}
	if !of[stream] && len(of) >= t.opts.Streams {
		return false
	}
	of[stream] = true
	return true
}

func dayOf(t time.Time) int64 {
	const day = 24 * 60 * 60
	s := t.Unix()
	if s < 0 {
		s -= day - 1
	}
	return s / day
}
