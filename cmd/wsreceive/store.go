package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"

	"wsrelay/console"
	"wsrelay/receiver"
	"wsrelay/receiver/elastic"
	"wsrelay/receiver/file"
	"wsrelay/receiver/sqlite"
)

// openStore opens the store that --to names.
func (c *serveCmd) openStore(ctx context.Context, stdout io.Writer, log *slog.Logger) (receiver.Store, error) {
	to, retain := c.To, c.Retain
	kind, path, _ := strings.Cut(to, ":")
	switch {
	case (c.engine != (engine{}) || c.DeadFile != "") && !isEngine(to):
		return nil, &console.Complaint{
			Err: fmt.Errorf("--index, --engine-... and --dead-file mean nothing to --to %s", to), Code: exitConfig,
			Effect: nothingReceived, Hint: "only Elasticsearch and OpenSearch have indices: --to http(s)://HOST:PORT",
		}
	case retain != (sqlite.Retain{}) && kind != "sqlite":
		return nil, &console.Complaint{
			Err: fmt.Errorf("--retain means nothing to --to %s", withoutPassword(to)), Code: exitConfig,
			Effect: nothingReceived, Hint: "only the SQLite store deletes by itself; an engine does it by its lifecycle policy",
		}
	case to == "stdout":
		return receiver.NewStdout(stdout), nil
	case isEngine(to):
		access, err := c.reach(log)
		var store *elastic.Store
		if err == nil {
			store, err = elastic.Open(ctx, to, elastic.Options{Prefix: c.Index, Access: access, DeadFile: c.DeadFile, Log: log})
		}
		return opened(store, err, withoutPassword(to), "curl shows whether an engine answers at this address")
	case kind == "sqlite" && path != "":
		store, err := sqlite.Open(path, sqlite.Options{Retain: retain, Log: log})
		return opened(store, err, to, "the directory must exist and be writable; one wsreceive writes a store at a time")
	case kind == "file" && path != "":
		store, err := file.Open(path, file.Options{Log: log})
		return opened(store, err, to, "the directory must exist and be writable; one wsreceive writes a file at a time")
	}
	return nil, &console.Complaint{
		Err: fmt.Errorf("--to %q is no store", to), Code: exitConfig,
		Effect: nothingReceived, Hint: "use sqlite:PATH, http(s)://HOST:PORT of Elasticsearch or OpenSearch, file:PATH, or stdout",
	}
}

// opened makes a complaint of err. S is a type of its own so that a nil
// pointer does not become a Store.
func opened[S receiver.Store](store S, err error, name, hint string) (receiver.Store, error) {
	if err == nil {
		return store, nil
	}
	return nil, &console.Complaint{
		Err: fmt.Errorf("cannot use the store %s: %w", name, err), Code: 1,
		Effect: nothingReceived, Hint: hint,
	}
}

// withoutPassword is a store as it may be shown; of a cluster --to names
// several nodes, separated by commas.
func withoutPassword(to string) string {
	if !isEngine(to) {
		return to
	}
	nodes := strings.Split(to, ",")
	for i, node := range nodes {
		if u, err := url.Parse(node); err == nil {
			nodes[i] = u.Redacted()
		} else {
			nodes[i] = "(not a URL)" // and so not known to be without one
		}
	}
	return strings.Join(nodes, ",")
}

func isEngine(to string) bool {
	return strings.HasPrefix(to, "http://") || strings.HasPrefix(to, "https://")
}
