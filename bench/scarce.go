package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What --compress auto is worth where something is scarce: in each situation, it is
// compared with the best of what does not change. All four of a situation run one
// after the other, so that what else the machine does hits all alike; each long enough
// that how auto begins is a small part of it.

// situation is what one row of the table is about.
type situation struct {
	name  string
	lines int
	under func() ([]string, error) // what starts wsrelay; nil: nothing
	both  bool                     // and wsreceive
	run   func(c chain, l int) func(*sandbox, int) (values, verdict, error)
	link  int // bytes a second; 0: loopback
}

const mbit = 1_000_000 / 8

var situations = []situation{
	{name: "loopback", lines: 6 * million, run: flood},
	{name: "link of 100 Mbit/s", lines: 3 * million / 2, run: flood, link: 100 * mbit},
	{name: "link of 10 Mbit/s", lines: million * 2 / 5, run: flood, link: 10 * mbit},
	{name: "disk of 20 MB/s", lines: 4 * million, run: flood, under: slowDisk},
	{name: "one core", lines: 3 * million, run: flood, under: oneCore, both: true},
	{name: "outage", lines: 6 * million, run: pile},
	{name: "trickle", lines: million / 2500, run: trickle},
}

// encodings are the values of --compress, the one that changes first.
var encodings = []string{"auto", "none", "s2", "zstd"}

func scarceCases() (cases []bench) {
	for _, s := range situations {
		for _, compress := range encodings {
			cases = append(cases, bench{
				name: s.with(compress), lines: s.lines,
				run: func(b *sandbox, n int) (values, verdict, error) {
					var under []string
					if s.under != nil {
						var err error
						if under, err = s.under(); err != nil {
							return nil, verdict{}, err
						}
					}
					c := wsrelay(compress, under...)
					if s.both {
						c.receive = receiveTo("file:out", under...)
					}
					return s.run(c, s.link)(b, n)
				},
			})
		}
	}
	return cases
}

func (s situation) with(compress string) string { return s.name + ", " + compress }

// oneCore has both ends run on one core.
func oneCore() ([]string, error) { return []string{"taskset", "-c", "0"}, nil }

// slowGroup is a control group: what is in it has a slow disk.
const slowGroup = "/sys/fs/cgroup/blkio/wsrelay-bench"

// slowDisk has the disk take 20 MB a second of wsrelay: what it syncs, it writes itself.
func slowDisk() ([]string, error) {
	const group, limit = slowGroup, "blkio.throttle.write_bps_device"
	var st unix.Stat_t
	if err := unix.Stat(os.TempDir(), &st); err != nil {
		return nil, err
	}
	err := os.Mkdir(group, 0o755)
	if err == nil || errors.Is(err, os.ErrExist) {
		rule := fmt.Sprintf("%d:%d %d", unix.Major(st.Dev), unix.Minor(st.Dev), 20_000_000)
		err = os.WriteFile(filepath.Join(group, limit), []byte(rule), 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: a disk that can be slowed down, by a control group: %v", errMissing, err) //nolint:errorlint // of one kind
	}
	return []string{"sh", "-c", `echo $$ >` + group + `/cgroup.procs && exec "$@"`, "sh"}, nil
}

// ends starts both ends of a chain with a link between them.
func (b *sandbox) ends(c chain, rate int) (*sender, *link, error) {
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	if _, err := c.receive(b, port); err != nil {
		return nil, nil, err
	}
	l, err := b.newLink(port, rate)
	if err != nil {
		return nil, nil, err
	}
	s, err := c.send(b, l.port)
	settle()
	return s, l, err
}

// flood feeds n lines as fast as they are taken.
func flood(c chain, rate int) func(*sandbox, int) (values, verdict, error) {
	return func(b *sandbox, n int) (values, verdict, error) {
		s, l, err := b.ends(c, rate)
		if err != nil {
			return nil, verdict{}, err
		}
		start := time.Now()
		err = b.in.feed(s.input, 0, n)
		if err == nil {
			err = s.arrive(n)
		}
		v := mean(n, time.Since(start).Seconds())
		b.spent(v, n, l)
		return b.conclude(v, n, err)
	}
}

// pile is an outage: the rate is that of taking lines in; then they are delivered.
func pile(c chain, _ int) func(*sandbox, int) (values, verdict, error) {
	return func(b *sandbox, n int) (values, verdict, error) {
		port, err := freePort()
		if err != nil {
			return nil, verdict{}, err
		}
		taken, _, err := b.pileUp(c, port, n, (*input).feed)
		if err != nil {
			return nil, verdict{}, err
		}
		v := values{"rate": taken["accept"]}
		b.spent(v, n, nil)
		s, l, err := b.ends(c, 0)
		if err != nil {
			return nil, verdict{}, err
		}
		err = s.arrive(n)
		v["wire"] = float64(l.bytes()) / float64(n)
		return b.conclude(v, n, err)
	}
}

// trickle is lines one by one.
func trickle(c chain, _ int) func(*sandbox, int) (values, verdict, error) {
	return func(b *sandbox, n int) (values, verdict, error) {
		var l *link
		c.receipts = func(b *sandbox, port int) (int, func() (int, error), error) {
			var err error
			if l, err = b.newLink(port, 0); err != nil {
				return 0, nil, err
			}
			return l.port, l.acknowledged, nil
		}
		v, found, err := latency(c)(b, n)
		if err == nil {
			b.spent(v, n, l)
		}
		return v, found, err
	}
}

// spent notes what the processes of the sandbox have used: those that have ended, as
// wsrelay has by then, wrote to the queue's disk; those that run, to the store's.
func (b *sandbox) spent(v values, n int, l *link) {
	cpu, disk := time.Duration(0), int64(0)
	for _, p := range b.processes {
		cpu += p.usage().cpu
		if p.ended() {
			disk += p.cmd.ProcessState.SysUsage().(*syscall.Rusage).Oublock * 512
		}
	}
	v["cpu"] = cpu.Seconds() * million / float64(n)
	v["disk"] = float64(disk) / float64(n)
	if l != nil {
		v["wire"] = float64(l.bytes()) / float64(n)
	}
}

// worstShare is what auto is to reach of the best that does not change.
const worstShare = 0.9

// ofBest is how good one is against the best fixed one: 1 is as good.
func (r *record) ofBest(s situation, compress string) (share float64, ok bool) {
	value := func(compress string) (float64, bool) {
		if speed, ok := r.median(s.with(compress) + "/rate"); ok {
			return speed, true
		}
		late, ok := r.median(s.with(compress) + "/p99")
		return 1 / late, ok
	}
	best := 0.0
	for _, fixed := range encodings[1:] {
		if x, ok := value(fixed); ok {
			best = max(best, x)
		}
	}
	mine, ok := value(compress)
	return mine / best, ok && best > 0
}

// scarce is the table of all situations.
func (r *record) scarce() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s Medians; CPU is of both ends, disk is what the queue wrote.\n\n", r.origin())
	b.WriteString("| | --compress | lines/s | p99, ms | CPU, s a million lines | disk, bytes a line | wire, bytes a line | of the best | |\n|---|---|--:|--:|--:|--:|--:|--:|---|\n")
	for _, s := range situations {
		for _, compress := range encodings {
			b.WriteString(r.scarceRow(s, compress))
		}
	}
	return b.String()
}

func (r *record) scarceRow(s situation, compress string) string {
	name := s.with(compress)
	cell := func(value string) string {
		x, ok := r.median(name + "/" + value)
		if !ok {
			return ""
		}
		return unit("").format(x)
	}
	found, share := "", ""
	if x, ok := r.ofBest(s, compress); ok {
		share = fmt.Sprintf("%.2f ×", x)
		if compress == "auto" {
			found = map[bool]string{true: "met", false: "**missed**"}[x >= worstShare]
		}
	}
	if wrong := r.Found[name]; wrong != "" {
		found = wrong
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", s.name, compress,
		cell("rate"), cell("p99"), cell("cpu"), cell("disk"), cell("wire"), share, found)
}
