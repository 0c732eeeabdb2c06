package wsreceive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"wsrelay/internal/cli"
	"wsrelay/receiver/web/login"
)

type passwdCmd struct {
	Name string `arg:"" help:"Name of the user: one word without a colon."`
}

// Run prints the user's line. It asks for the password twice on a terminal, and
// else takes the first line of stdin.
func (c *passwdCmd) Run(to *streams) error {
	password, err := readPassword(to)
	var line string
	if err == nil {
		line, err = login.Line(c.Name, password)
	}
	if err != nil {
		return &cli.Error{Err: err, Code: exitUsage, Hint: "wsreceive passwd NAME >>FILE, and then --page-users FILE"}
	}
	_, err = fmt.Fprintln(to.out, line)
	return err
}

func readPassword(to *streams) ([]byte, error) {
	f, ok := to.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		line, err := bufio.NewReader(to.in).ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return bytes.TrimRight(line, "\r\n"), err
	}
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(to.err, prompt)
		defer fmt.Fprintln(to.err)
		return term.ReadPassword(int(f.Fd()))
	}
	first, err := ask("Password: ")
	if err != nil {
		return nil, err
	}
	again, err := ask("Once more: ")
	if err == nil && !bytes.Equal(first, again) {
		err = errors.New("the two passwords are different")
	}
	return first, err
}
