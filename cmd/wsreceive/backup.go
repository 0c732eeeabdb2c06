package main

import (
	"context"
	"errors"
	"fmt"

	"wsrelay/console"
	"wsrelay/receiver/sqlite"
)

type backupCmd struct {
	File string `arg:"" help:"The copy, a file that is not there yet."`
	To   string `default:"sqlite:./wsreceive.db" placeholder:"STORE" help:"The embedded store. Default: ${default}."`
}

// Run copies the store as it is at one moment.
func (c *backupCmd) Run(ctx context.Context) (err error) {
	path, ok := storePath(c.To)
	if !ok {
		return &console.Complaint{
			Err: fmt.Errorf("cannot copy %s", withoutPassword(c.To)), Code: exitUsage,
			Hint: "backup copies the embedded store, --to sqlite:PATH",
		}
	}
	store, err := sqlite.OpenReader(path)
	if err != nil {
		return &console.Complaint{Err: err, Code: 1, Hint: "--to sqlite:PATH says where wsreceive stores"}
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := store.Backup(ctx, c.File); err != nil {
		return &console.Complaint{Err: err, Code: 1, Hint: "the directory must be writable, have room for it, and hold no file of this name"}
	}
	return nil
}
