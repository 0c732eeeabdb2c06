package wsrelay

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"wsrelay/internal/cli"
	"wsrelay/internal/status"
)

// statusCmd is wsrelay status.
type statusCmd struct {
	Instance string `env:"WSRELAY_INSTANCE" help:"Show only the relay of this name. Default: all relays with a queue in the default directory of root or of this user."`
	QueueDir string `placeholder:"DIR" env:"WSRELAY_QUEUE_DIR" help:"Show only the relay with this queue directory."`
	JSON     bool   `name:"json" help:"Print a JSON object, with --watch one a line; docs/status.md describes the keys."`
	Watch    bool   `help:"Repeat every second until interrupted; on a terminal, redraw the screen."`
}

const watchEvery = time.Second

// Run shows the state of the relays. Its exit status is of use to a health check.
func (c *statusCmd) Run(s *stdio) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for {
		all := c.inspect()
		if err := c.show(s.out, all); err != nil {
			return err
		}
		if c.Watch {
			select {
			case <-ctx.Done():
			case <-time.After(watchEvery):
				continue
			}
		}
		return cli.Exit(status.ExitCode(all))
	}
}

func (c *statusCmd) inspect() []status.Snapshot {
	all := []status.Snapshot{}
	for _, dir := range c.dirs() {
		all = append(all, status.Read(dir))
	}
	return all
}

func (c *statusCmd) dirs() []string {
	switch {
	case c.QueueDir != "":
		return []string{c.QueueDir}
	case c.Instance != "":
		return []string{queueDir(c.Instance)}
	}
	return status.Find(filepath.Dir(rootQueue("x")), filepath.Dir(userQueue("x")))
}

func (c *statusCmd) show(out *os.File, all []status.Snapshot) error {
	var b bytes.Buffer
	redraw := c.Watch && !c.JSON && isTerminal(out)
	switch {
	case c.JSON:
		if err := json.NewEncoder(&b).Encode(map[string]any{"instances": all}); err != nil {
			return err
		}
	case len(all) == 0:
		fmt.Fprintf(&b, "no queue of wsrelay at its default place; --queue-dir names another\n")
	default:
		status.Write(&b, all)
		if c.Watch && !redraw {
			b.WriteByte('\n')
		}
	}
	text := b.Bytes()
	if redraw { // line by line over what is there: nothing flickers
		text = append([]byte("\x1b[H"), bytes.ReplaceAll(text, []byte("\n"), []byte("\x1b[K\n"))...)
		text = append(text, "\x1b[J"...)
	}
	_, err := out.Write(text)
	return err
}
