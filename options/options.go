// Package options finds values for the options of a command line that are not
// on it: in 'name = value' lines on a descriptor, in the environment, in a
// file. That is also the order in which they count.
//
// A program has one Sources, binds it to its kong parser and makes it the
// parser's resolver; the flags that name a file and a descriptor have the types
// File and FD.
package options

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// Sources answers for the options that the command line does not give.
type Sources struct {
	Env  string   // begins the names in the environment: "WSRELAY_"
	Only []string // names of options that are taken from the command line and the environment alone

	fd, file map[string][]string
}

// Validate refuses names that are no option: a typing error in a file must not
// pass for a default.
func (s *Sources) Validate(app *kong.Application) error {
	known := map[string]bool{}
	for _, f := range app.DefaultCmd.Flags {
		known[f.Name] = true
	}
	for _, name := range s.Only {
		known[name] = false
	}
	for _, from := range []map[string][]string{s.fd, s.file} {
		for name := range from {
			if !known[name] {
				return fmt.Errorf("unknown option %q", name)
			}
		}
	}
	return nil
}

// Resolve is kong's question for a flag that was not given.
func (s *Sources) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	values := s.find(flag.Name)
	switch {
	case len(values) == 0:
		return nil, nil
	case flag.IsCumulative():
		all := make([]any, len(values))
		for k, v := range values {
			all[k] = v
		}
		return all, nil
	}
	return values[len(values)-1], nil
}

// Get gives the last value of an option, or "".
func (s *Sources) Get(name string) string {
	if values := s.find(name); len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

func (s *Sources) find(name string) []string {
	env := os.Getenv(s.Env + strings.ToUpper(strings.ReplaceAll(name, "-", "_")))
	switch {
	case len(s.fd[name]) > 0:
		return s.fd[name]
	case env != "":
		return []string{env}
	}
	return s.file[name]
}

// File is the type of the flag that names a file of options.
type File string

// BeforeResolve is kong's hook for a flag that other flags depend on.
func (f File) BeforeResolve(ctx *kong.Context, trace *kong.Path, s *Sources) error {
	name, _ := ctx.FlagValue(trace.Flag).(File)
	return s.ReadFile(string(name))
}

// ReadFile reads the options in a file.
func (s *Sources) ReadFile(name string) error {
	r, err := os.Open(name)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read
	s.file, err = read(r, name)
	return err
}

// FD is the type of the flag that names an open descriptor with options.
type FD int

// BeforeResolve is as File's.
func (f FD) BeforeResolve(ctx *kong.Context, trace *kong.Path, s *Sources) error {
	fd, _ := ctx.FlagValue(trace.Flag).(FD)
	return s.ReadFD(int(fd))
}

// ReadFD reads the options on an open descriptor, if that was not done, and
// closes it. One of them may be config, the name of a file of options; the
// command line's counts first.
func (s *Sources) ReadFD(fd int) (err error) {
	if s.fd != nil {
		return nil
	}
	if fd < 3 {
		return fmt.Errorf("--options-fd %d: descriptors 0 to 2 have their own use", fd)
	}
	r := os.NewFile(uintptr(fd), "options-fd")
	defer r.Close() //nolint:errcheck // only read
	s.fd, err = read(r, "descriptor "+strconv.Itoa(fd))
	file := s.fd["config"]
	if delete(s.fd, "config"); len(file) > 0 && s.file == nil {
		err = errors.Join(err, s.ReadFile(file[len(file)-1]))
	}
	return err
}

// read reads lines of the form 'name = value'. The value is all that stands
// behind the first '=', without the blanks around it; nothing in it is special.
// Empty lines and lines that begin with '#' are skipped. An error does not take
// back the options above it.
func read(r io.Reader, from string) (options map[string][]string, err error) {
	options = map[string][]string{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return options, fmt.Errorf("%s, line %d: not of the form 'name = value'", from, n)
		}
		name = strings.TrimPrefix(strings.TrimSpace(name), "--")
		options[name] = append(options[name], strings.TrimSpace(value))
	}
	return options, lines.Err()
}
