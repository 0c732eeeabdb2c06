package wsrelay

import (
	"fmt"
	"os"
	"regexp"

	"wsrelay/handshake"
	"wsrelay/internal/cli"
)

// keygenCmd is wsrelay keygen.
type keygenCmd struct {
	File string `arg:"" optional:"" help:"File to write, readable by this user alone; an existing file is not changed. Default: standard output."`
	Name string `placeholder:"NAME" help:"The key's name: [A-Za-z0-9_.-], at most 64. Default: this host's."`
}

// Run makes a key.
func (k *keygenCmd) Run(s *stdio) error {
	if k.Name == "" {
		k.Name = regexp.MustCompile(`[^A-Za-z0-9_.-]`).ReplaceAllString(hostname(), "-")
	}
	line := handshake.NewKeyLine(k.Name)
	if _, err := handshake.ParseKeys([]byte(line)); err != nil {
		return usageError(fmt.Errorf("--name: %w", err))
	}
	if k.File == "" {
		fmt.Fprintln(s.out, line)
		return nil
	}
	f, err := os.OpenFile(k.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = f.WriteString("# a key of wsrelay; who has it can send lines in this host's name\n" + line + "\n")
		if closed := f.Close(); err == nil {
			err = closed
		}
	}
	if err != nil {
		return &cli.Error{
			Err: fmt.Errorf("no key was made: %w", err), Effect: "nothing has changed",
			Hint: "name a file that is not there yet", Code: exitFailed,
		}
	}
	fmt.Fprintf(s.out, "The key %q is in %s.\nHere:     wsrelay --key-file %s\nReceiver: add the line of %q in that file, by a safe way, to the file of wsreceive --keys, and send it SIGHUP; host=%s behind it allows this key for this host only.\n",
		k.Name, k.File, k.File, k.Name, hostname())
	return nil
}
