package wsreceive

import (
	"context"
	"errors"
	"fmt"

	"wsrelay/handshake"
	"wsrelay/internal/cli"
	"wsrelay/receiver"
	"wsrelay/receiver/store/elastic"
)

type streamsCmd struct {
	List streamsListCmd `cmd:"" default:"withargs" help:"Print each stream and the name of its sender (the default)."`
	Move streamsMoveCmd `cmd:"" help:"Move a stream to another sender."`
}

// Help is shown below the options.
func (streamsCmd) Help() string {
	return `A stream is the queue of one wsrelay. It belongs to the name of the key, token or certificate with which the sender started it; any other name is refused. Move the stream if its queue goes to another host, or if its host gets a key with another name. A stream that was started without authentication is not in the list, and belongs to the first name that continues it.`
}

// storeOptions is a store whose streams have owners.
type storeOptions struct {
	To string `default:"${logs}" placeholder:"STORE" help:"The store, as in serve. Default: ${default}."`
	engineOptions
	configOption
}

type streamsListCmd struct{ storeOptions }

type streamsMoveCmd struct {
	SID  string `arg:"" name:"sid" help:"Id of the stream, as in the log and in wsrelay status."`
	Name string `arg:"" help:"Name of the key, token or certificate that gets the stream."`
	storeOptions
}

// Run prints the streams in their order.
func (c *streamsListCmd) Run(ctx context.Context, to *streams) error {
	list := func(sid, owner string) bool {
		_, err := fmt.Fprintln(to.out, sid, owner)
		return err == nil
	}
	if k, at, ok := kindOf(c.To); ok && k.owners != nil {
		if err := k.owners(at, list); err != nil {
			return storeFailed(c.To, err)
		}
		return nil
	}
	return c.with(ctx, to, func(s receiver.Owners) error { return s.EachOwner(ctx, list) })
}

// Run moves a stream and says from whom.
func (c *streamsMoveCmd) Run(ctx context.Context, to *streams) error {
	if !handshake.ValidSID(c.SID) {
		return &cli.Error{
			Err: fmt.Errorf("%q is not a stream id", c.SID), Code: exitUsage,
			Hint: "wsreceive streams lists them",
		}
	}
	return c.with(ctx, to, func(s receiver.Owners) error {
		from, err := s.Owner(ctx, c.SID)
		if err != nil {
			return err
		}
		if from == "" {
			return errors.New("this stream has no owner: it will belong to the first sender that continues it")
		}
		if owner, err := s.SetOwner(ctx, c.SID, from, c.Name); err != nil || owner != c.Name {
			return errors.Join(err, fmt.Errorf("the stream belongs to %q now", owner))
		}
		_, err = fmt.Fprintf(to.out, "%s: moved from %s to %s\n", c.SID, from, c.Name)
		return err
	})
}

// with calls f with the store.
func (c *storeOptions) with(ctx context.Context, to *streams, f func(receiver.Owners) error) (err error) {
	if k, _, ok := kindOf(c.To); ok && k.logs { // wsreceive may have it open
		store, err := openDatabase(ctx, c.To, to)
		if err != nil {
			return err
		}
		defer store.close()
		if err := f(store); err != nil {
			return storeFailed(c.To, err)
		}
		return nil
	}
	serve := serveCmd{To: c.To, engineOptions: c.engineOptions, LogLevel: "warn", LogFormat: "text"}
	store, err := serve.openStore(ctx, to.out, serve.logger(to.err))
	if err != nil {
		return storeFailed(c.To, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	owners, ok := store.(receiver.Owners)
	if !ok {
		return &cli.Error{
			Err: fmt.Errorf("--to %s keeps no owners of streams", c.To), Code: exitUsage,
			Hint: "use logs:DIR, file:PATH, or the URL of an engine",
		}
	}
	if err := f(owners); err != nil {
		return storeFailed(c.To, err)
	}
	return nil
}

func storeFailed(to string, err error) error {
	hint := "--to says where wsreceive stores"
	if errors.Is(err, receiver.ErrInUse) {
		hint = "stop wsreceive, move the stream, and start wsreceive again: only one process can have this store open"
	}
	return &cli.Error{Err: fmt.Errorf("%s: %w", withoutPassword(to), err), Code: 1, Hint: hint}
}

var (
	_ receiver.Owners = (*localDatabase)(nil)
	_ receiver.Owners = (*elastic.Store)(nil)
)
