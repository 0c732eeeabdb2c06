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
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// Sources answers for the options that the command line does not give.
type Sources struct {
	Env  string   // begins the names in the environment: "WSRELAY_"
	Only []string // names of options that are taken from the command line and the environment alone

	// Usual is a file that a command's File flag names by default: it need not be
	// there, nor be one that this user may read.
	Usual string

	fd, file map[string][]string
	shell    bool // fd is from a shell's arguments
	unread   bool
}

// Unread tells whether a source was named, and could not be read to its end:
// nobody knows what else is in it.
func (s *Sources) Unread() bool { return s.unread }

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

// Resolve is kong's question for a flag that was not given. It has an answer for
// the flags of the default command, and for those of others that have the same
// names: what else there is, as a --yes, is asked for on the command line or not
// at all.
func (s *Sources) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	named := func(f *kong.Flag) bool { return f.Name == flag.Name }
	_, fd := reflect.TypeAssert[FD](flag.Target)
	if fd || !slices.ContainsFunc(ctx.Model.DefaultCmd.Flags, named) {
		return nil, nil
	}
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

// File is the type of the flag that names a file of options; with kong's tag
// env, the environment may name it, too.
type File string

// BeforeResolve is kong's hook for a flag that other flags depend on.
func (f File) BeforeResolve(ctx *kong.Context, trace *kong.Path, s *Sources) error {
	name, _ := ctx.FlagValue(trace.Flag).(File)
	switch command := ctx.Selected(); {
	case slices.Contains(ctx.Path, trace):
		return s.ReadFile(string(name))
	case command != nil && slices.Contains(command.Flags, trace.Flag): // kong asks for each command's
		return s.ReadOther(string(name))
	}
	return nil
}

// ReadFile reads the options in a file, and then those in the files *.conf of the
// directory name.d beside it, in the order of their names. Of an option that
// takes one value, the last one read counts. So a package's file stays as it is.
func (s *Sources) ReadFile(name string) error {
	all := map[string][]string{}
	s.file = all
	more, err := filepath.Glob(quoteGlob(name) + ".d/*.conf")
	for _, name := range append([]string{name}, more...) {
		err = errors.Join(err, s.readInto(all, name))
	}
	return err
}

// quoteGlob has filepath.Glob take name as it is.
func quoteGlob(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}

func (s *Sources) readInto(all map[string][]string, name string) error {
	r, err := os.Open(name)
	if err != nil {
		s.unread = true
		return err
	}
	defer r.Close() //nolint:errcheck // only read
	options, err := s.read(r, name)
	for option, values := range options {
		all[option] = append(all[option], values...)
	}
	return err
}

// ReadOther reads the options in a file, if it has a name and there was no other
// to read.
func (s *Sources) ReadOther(name string) error {
	if name == "" || s.file != nil || s.unread {
		return nil
	}
	if f, err := os.Open(name); name == s.Usual && err != nil {
		return nil
	} else if err == nil {
		_ = f.Close()
	}
	return s.ReadFile(name)
}

// FD is the type of the flag that names an open descriptor with options: one of
// the command line alone, for a number means nothing elsewhere.
type FD int

// BeforeResolve is as File's.
func (f FD) BeforeResolve(ctx *kong.Context, trace *kong.Path, s *Sources) error {
	fd, _ := ctx.FlagValue(trace.Flag).(FD)
	return s.ReadFD(int(fd))
}

// ReadFD reads the options on an open descriptor, if that was not done, and
// closes it. They are all that is there, or, where that is a shell's
// /proc/PID/cmdline, what stands behind the first empty line of its command:
// the shell itself never reads them if it has exited by then. One of them may be
// config, the name of a file of options; that of the command line has priority.
func (s *Sources) ReadFD(fd int) (err error) {
	if s.fd != nil {
		return nil
	}
	if fd < 3 {
		s.unread = true
		return fmt.Errorf("--options-fd %d: descriptors 0 to 2 have their own use", fd)
	}
	r := os.NewFile(uintptr(fd), "options-fd")
	defer r.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(r)
	s.unread = s.unread || err != nil
	from := "descriptor " + strconv.Itoa(fd)
	if err != nil {
		err = fmt.Errorf("%s: %w", from, err)
	}
	var wrong error
	s.shell = bytes.IndexByte(text, 0) >= 0
	s.fd, wrong = s.read(bytes.NewReader(ofShell(text)), from)
	err = errors.Join(err, wrong)
	file := s.fd["config"]
	if delete(s.fd, "config"); len(file) > 0 {
		err = errors.Join(err, s.ReadOther(file[len(file)-1]))
	}
	return err
}

// Exposed gives the values of an option that stand in the arguments of a shell,
// where every local user can read them.
func (s *Sources) Exposed(name string) []string {
	if !s.shell {
		return nil
	}
	return s.fd[name]
}

// OfShell gives an option of those that a shell was started with: see ReadFD.
func OfShell(args []byte, name string) string {
	s := &Sources{}
	s.fd, _ = s.read(bytes.NewReader(ofShell(args)), "") // what is wrong in it is not asked for
	return s.Get(name)
}

// ofShell cuts the options out of the arguments of a shell, as /proc/PID/cmdline
// has them: they stand behind the first empty line of its command. Text without
// NUL is options and nothing else.
func ofShell(text []byte) []byte {
	if bytes.IndexByte(text, 0) < 0 {
		return text
	}
	_, text, _ = bytes.Cut(text, []byte("\n\n"))
	text, _, _ = bytes.Cut(text, []byte{0})
	return text
}

// read reads lines of the form 'name = value'. The value is all that stands
// behind the first '=', without the blanks around it; nothing in it is special.
// Empty lines and lines that begin with '#' are skipped. A line of another form
// is an error, the first one, and does not hide the options around it.
func (s *Sources) read(r io.Reader, from string) (options map[string][]string, err error) {
	options = map[string][]string{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			err = cmp.Or(err, fmt.Errorf("%s, line %d: not of the form 'name = value'", from, n))
			continue
		}
		name = strings.TrimPrefix(strings.TrimSpace(name), "--")
		options[name] = append(options[name], strings.TrimSpace(value))
	}
	if failed := lines.Err(); failed != nil {
		s.unread = true
		err = errors.Join(err, fmt.Errorf("%s: %w", from, failed))
	}
	return options, err
}
