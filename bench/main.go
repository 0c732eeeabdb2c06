package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// options of a benchmark.
type options struct {
	quick  bool
	scarce bool
	share  float64 // of the lines of a full run
	rounds int
	idle   time.Duration
	only   *regexp.Regexp
	keep   bool // in the repository, as what is known of this machine
}

func main() {
	var o options
	only, docs := "", false
	flag.BoolVar(&o.quick, "quick", false, "a tenth of the lines")
	flag.BoolVar(&o.scarce, "scarce", false, "what --compress is worth where something is scarce, and nothing else")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each case runs")
	flag.StringVar(&only, "only", "", "only cases whose names match this `expression`")
	flag.BoolVar(&o.keep, "keep", false, "keep the results in bench/results as those of this machine, and write the documents; only of a full run")
	flag.BoolVar(&docs, "docs", false, "write the documents from bench/results, and measure nothing")
	flag.Parse()
	o.share, o.idle = 1, 20*time.Second
	if o.quick {
		o.share, o.idle = 0.1, 3*time.Second
	}
	var err error
	if o.only, err = regexp.Compile(only); err == nil && o.keep && o.command() != "make bench" {
		err = errors.New("-keep is for a full run")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(64)
	}
	if docs {
		if err := writeDocuments("."); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, &o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) (err error) {
	b, err := makeBed(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	of := b.machine()
	of.Command = o.command()
	fmt.Println(of.Machine + ", " + of.Software)
	r, err := b.rounds(ctx, o)
	if err != nil {
		return err
	}
	return o.report(r.record(of))
}

// makeBed builds the programs and the input.
func makeBed(ctx context.Context, o *options) (*suite, error) {
	dir, err := os.MkdirTemp("", "wsrelay-bench-")
	if err != nil {
		return nil, err
	}
	b := &suite{dir: dir, idle: o.idle}
	b.rsyslog = sync.OnceValue(func() string { return unpackRsyslog(ctx, filepath.Join(dir, "rsyslog")) })
	b.victoriaLogs = sync.OnceValue(func() error { return buildVictoriaLogs(filepath.Join(dir, "victoria-logs")) })
	fmt.Println("building wsrelay and wsreceive, writing the input")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", dir, "wsrelay", "wsrelay/cmd/wsreceive",
		"wsrelay/bench/nothing")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("go build: %w\n%s", err, out), b.close())
	}
	most := int(million * o.share)
	for _, c := range o.cases() {
		most = max(most, c.lines)
	}
	if b.in, err = newInput(filepath.Join(dir, "input"), most); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *suite) close() error {
	_ = os.Remove(slowGroup) // if it was made
	var err error
	if b.in != nil {
		err = b.in.close()
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// cases are those that were asked for.
func (o *options) cases() (todo []bench) {
	all := cases()
	if o.scarce {
		all = scarceCases()
	}
	for _, c := range all {
		if o.only.MatchString(c.name) {
			c.lines = int(float64(c.lines) * o.share)
			todo = append(todo, c)
		}
	}
	return todo
}

// rounds runs all cases in turn, again and again, and says how it gets on.
func (b *suite) rounds(ctx context.Context, o *options) (*results, error) {
	todo := o.cases()
	r, start, n, all := newResults(), time.Now(), 0, 0
	for _, c := range todo {
		all += c.rounds(o)
	}
	for round := range o.rounds {
		slices.Reverse(todo) // or one case would always run behind the same other one
		for _, c := range todo {
			if round >= c.rounds(o) {
				continue
			}
			n++
			v, found, err := b.once(ctx, c)
			if ctx.Err() != nil {
				return nil, errors.New("interrupted")
			}
			r.add(c.name, v, found, err)
			fmt.Printf("%5.0f s  %3d/%d  %-36s %s\n", time.Since(start).Seconds(), n, all, c.name,
				summary(v, found, err))
		}
	}
	return r, nil
}

// rounds is how often a case runs.
func (c bench) rounds(o *options) int {
	if c.once {
		return min(o.rounds, 1)
	}
	return o.rounds
}

// once runs a case in a sandbox of its own.
func (b *suite) once(ctx context.Context, c bench) (v values, found verdict, err error) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	unix.Sync() // what the case before has left to be written is not to slow down this one
	box, err := b.newSandbox(ctx)
	if err != nil {
		return nil, found, err
	}
	defer func() { err = errors.Join(err, box.close()) }()
	return c.run(box, c.lines)
}

// report prints the table, and keeps the results if they are to be kept.
func (o *options) report(r *record) error {
	table := r.markdown()
	if o.scarce {
		table = r.scarce()
	}
	fmt.Println("\n" + table)
	if !o.keep {
		return nil
	}
	return errors.Join(r.save("."), writeDocuments("."))
}

// command is how this was started.
func (o *options) command() string {
	switch {
	case o.only.String() != "" || o.rounds != 3:
		return "go run ./bench " + strings.Join(os.Args[1:], " ")
	case o.scarce:
		return "make bench-scarce"
	case o.quick:
		return "make bench-quick"
	}
	return "make bench"
}

// summary is one run in a few words.
func summary(v values, found verdict, err error) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		words = append(words, name+" "+unit("").format(v[name]))
	}
	switch {
	case err != nil:
		words = append(words, err.Error())
	case !found.ok():
		words = append(words, found.String())
	}
	return strings.Join(words, ", ")
}
