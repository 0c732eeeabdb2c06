package wsreceive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"wsrelay/receiver/store/stdout"

	"github.com/dustin/go-humanize"

	"wsrelay/internal/cli"
	"wsrelay/receiver"
	"wsrelay/receiver/store/elastic"
	"wsrelay/receiver/store/file"
	"wsrelay/receiver/store/logs"
	"wsrelay/receiver/store/logs/logsql"
	"wsrelay/receiver/store/victorialogs"
)

// logsDefault is where the log database is unless --to says otherwise.
const logsDefault = "logs:./wsreceive-data"

// logsNeeds is what to look at when the log database cannot be opened.
const logsNeeds = "the directory must be writable; one wsreceive at a time has a log database open"

// kind is a kind of store. A new one is a package, and an entry in kinds.
type kind struct {
	words []string // before the colon of --to

	// open opens the store; what it gives beside an error is no store.
	open func(ctx context.Context, c *serveCmd, at string, stdout io.Writer, log *slog.Logger) (receiver.Store, error)

	form     string // of --to, for people
	needs    string // what to look at when it cannot be opened
	url      bool   // it is at a URL, which is what the whole of --to is
	engine   bool   // --index and the other options of engines mean something to it
	remote   bool   // its rows are on another host, behind a journal: --journal
	logs     bool   // the log database: --retain, search, backup, verify
	pageNote string // what the page, which shows the newest lines only, says of where all are; %s is at

	// What can be read while another process has the store open; nil: nothing.
	senders func(at string) ([]receiver.Sender, error)
	owners  func(at string, f func(sid, owner string) bool) error
}

// kinds are the kinds of store.
var kinds = []kind{
	{
		words: []string{"logs"}, open: openLogs, form: "logs:DIR", logs: true, senders: logs.Senders,
		needs: logsNeeds,
	},
	{
		words: []string{"http", "https"}, open: openEngine, form: "http(s)://HOST:PORT of Elasticsearch or OpenSearch",
		url: true, engine: true,
		needs: "curl shows whether an engine answers at this address",
	},
	{
		words: []string{"cloud"}, open: openEngine, form: "cloud:NAME:BASE64 of Elastic Cloud", url: true, engine: true,
		needs: "the deployment's page shows its Cloud ID",
	},
	{
		words: []string{"victorialogs+http", "victorialogs+https"}, open: openVictoriaLogs,
		form: "victorialogs+http(s)://HOST:PORT", url: true, remote: true,
		needs:    "the directory of --journal must be writable for one wsreceive; curl http://HOST:PORT/metrics shows whether the server answers",
		pageNote: "The newest lines, as they come. All are in VictoriaLogs, which has a page of its own at /select/vmui/.",
	},
	{
		words: []string{"file"}, open: openFile, form: "file:PATH", senders: file.Senders, owners: file.EachOwner,
		needs:    "the directory must exist and be writable; one wsreceive writes a file at a time",
		pageNote: "The newest lines, as they come. All are in the file %s.",
	},
	{
		words: []string{"stdout"}, open: openStdout, form: "stdout",
		pageNote: "The newest lines, as they come. All go to the standard output of wsreceive.",
	},
}

// storeForms lists what --to can be.
func storeForms() string {
	forms := make([]string, len(kinds))
	for i, k := range kinds {
		forms[i] = k.form
	}
	return strings.Join(forms, ", ")
}

// journalDefault is where lines wait for a server unless --journal says otherwise.
const journalDefault = "./wsreceive-journal"

// kindOf gives the kind of store that to names, and where it is.
func kindOf(to string) (k kind, at string, ok bool) {
	word, at, colon := strings.Cut(to, ":")
	i := slices.IndexFunc(kinds, func(k kind) bool { return slices.Contains(k.words, word) })
	if i < 0 {
		return kind{}, at, false
	}
	if k = kinds[i]; k.url {
		at = to
	}
	return k, at, (at != "") == colon && colon == (word != k.form) // stdout is all of its form
}

// openTimeout is how long another process may have the store open when
// wsreceive starts: a search, or a wsreceive that ends. A variable for tests.
var openTimeout = 30 * time.Second

// openWhenFree opens the store, and waits for another process that has it open. Its
// error is receiver.ErrInUse if that takes too long, or ctx ends meanwhile.
func (c *serveCmd) openWhenFree(ctx context.Context, stdout io.Writer, log *slog.Logger) (receiver.Store, error) {
	waiting, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	for waits := false; ; waits = true {
		store, err := c.openStore(ctx, stdout, log)
		if !errors.Is(err, receiver.ErrInUse) || waiting.Err() != nil {
			return store, err
		}
		if !waits {
			log.Warn("the store is in use", "err", err, "patience", openTimeout,
				cli.Effect, "nothing is received yet; senders keep their lines",
				cli.Hint, "wait for a search or backup to end, or stop the other wsreceive")
		}
		wait(waiting)
	}
}

// openStore opens the store that --to names.
func (c *serveCmd) openStore(ctx context.Context, stdout io.Writer, log *slog.Logger) (receiver.Store, error) {
	complain := func(hint, format string, a ...any) error {
		return &cli.Error{Err: fmt.Errorf(format, a...), Code: exitConfig, Effect: nothingReceived, Hint: hint}
	}
	k, at, ok := kindOf(c.To)
	switch {
	case !ok:
		return nil, complain("use "+storeForms(), "--to %q is not a store", c.To)
	case !k.engine && (c.engineOptions != (engineOptions{}) || c.DeadFile != ""):
		return nil, complain("only Elasticsearch and OpenSearch have indices: --to http(s)://HOST:PORT",
			"--index, --data-stream, --engine-... and --dead-file do not apply to --to %s", c.To)
	case !k.remote && c.Journal != "" && c.Journal != journalDefault:
		return nil, complain("only lines for a VictoriaLogs server wait in a journal apart: --to victorialogs+http://HOST:9428", "--journal does not apply to --to %s", withoutPassword(c.To))
	case !k.logs && c.Memory != 0:
		return nil, complain("only the log database has a limit of memory; GOMEMLIMIT is one for the whole process",
			"--memory does not apply to --to %s", withoutPassword(c.To))
	case !k.logs && c.Retain != (retain{}):
		return nil, complain("only the log database deletes automatically; an engine does it by its lifecycle policy",
			"--retain does not apply to --to %s", withoutPassword(c.To))
	}
	if group := cli.GroupMemory(); !k.logs && group > 0 {
		limitMemory(ctx, group/5*3)
	}
	store, err := k.open(ctx, c, at, stdout, log)
	if err != nil {
		return nil, &cli.Error{
			Err: fmt.Errorf("cannot use the store %s: %w", withoutPassword(c.To), err), Code: 1,
			Effect: nothingReceived, Hint: k.needs,
		}
	}
	return store, nil
}

func openLogs(ctx context.Context, c *serveCmd, at string, _ io.Writer, log *slog.Logger) (receiver.Store, error) {
	memory := cmp.Or(int64(c.Memory), defaultMemory(cli.GroupMemory()))
	limitMemory(ctx, memory*5/8) // of the runtime; the rest is for mapped files
	return logs.Open(at, logs.Options{
		Retain: c.Retain.Age, RetainBytes: c.Retain.Bytes, Memory: memory * 3 / 16, Log: log,
	})
}

func openFile(_ context.Context, _ *serveCmd, at string, _ io.Writer, log *slog.Logger) (receiver.Store, error) {
	return file.Open(at, file.Options{Log: log})
}

func openStdout(_ context.Context, _ *serveCmd, _ string, to io.Writer, _ *slog.Logger) (receiver.Store, error) {
	return stdout.New(to), nil
}

func openEngine(ctx context.Context, c *serveCmd, at string, _ io.Writer, log *slog.Logger) (receiver.Store, error) {
	access, err := c.elasticAccess(log)
	if err != nil {
		return nil, err
	}
	return elastic.Open(ctx, at, elastic.Options{
		Prefix: c.Index, DataStream: c.DataStream, Pipeline: c.Pipeline,
		Access: access, DeadFile: c.DeadFile, Log: log,
	})
}

func openVictoriaLogs(_ context.Context, c *serveCmd, at string, _ io.Writer,
	log *slog.Logger,
) (receiver.Store, error) {
	address := strings.TrimPrefix(at, "victorialogs+")
	return victorialogs.Open(cmp.Or(c.Journal, journalDefault), address, victorialogs.Options{Log: log})
}

// retain says how long the log database keeps lines; what is zero is no limit.
type retain struct {
	Age   time.Duration // by the line's own time, in whole days
	Bytes int64         // of the database on disk
}

// minRetain is the smallest limit in bytes: an empty store is not much smaller.
const minRetain = 1 << 20

// UnmarshalText reads "30d", "50GiB", or both with a comma between them.
func (r *retain) UnmarshalText(text []byte) error {
	var parsed retain
	for part := range strings.SplitSeq(string(text), ",") {
		if age, err := logsql.ParseSpan(part); err == nil && parsed.Age == 0 && age >= 24*time.Hour {
			parsed.Age = age
			continue
		}
		size, err := humanize.ParseBytes(part)
		if err != nil || size < minRetain || size > 1<<62 || parsed.Bytes != 0 || !strings.ContainsAny(part, "bB") {
			return fmt.Errorf("%q is not a retention: use an age of at least a day such as 30d, a size such as 50GiB (1MiB at least), or both: 30d,50GiB", text)
		}
		parsed.Bytes = int64(size)
	}
	*r = parsed
	return nil
}

// size is a number of bytes.
type size int64

// UnmarshalText reads "512MiB".
func (s *size) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil || n < 64<<20 || n > 1<<50 {
		return fmt.Errorf("%q is not a size of at least 64MiB, such as 512MiB", text)
	}
	*s = size(n)
	return nil
}

// withoutPassword is a store as it may be shown; of a cluster --to names
// several nodes, separated by commas.
func withoutPassword(to string) string {
	if k, _, ok := kindOf(to); !ok || !k.url {
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
	k, _, ok := kindOf(to)
	return ok && k.engine
}
