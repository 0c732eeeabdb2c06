package wsreceive

import (
	"context"
	"net/url"
	"path/filepath"

	"wsrelay/internal/cli"
)

type backupCmd struct {
	Dir string `arg:"" help:"Directory of the copy, which must not exist yet. The copy is a complete log database: --to logs:DIR."`
	To  string `default:"${logs}" placeholder:"STORE" help:"The log database. Default: ${default}."`
	configOption
}

// Run copies the store as it is at one moment, with every line that is final by then.
func (c *backupCmd) Run(ctx context.Context, to *streams) error {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	store, err := openDatabase(ctx, c.To, to)
	if err != nil {
		return err
	}
	defer store.close()
	done, err := store.get(ctx, "/store/backup", url.Values{"to": {dir}})
	if err != nil {
		return &cli.Error{Err: err, Code: 1, Hint: "the parent directory must be writable for wsreceive, have enough space, and contain nothing with this name"}
	}
	return done.Close()
}
