package elastic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// Options of Open. The zero value is an engine without authentication.
type Options struct {
	// Prefix is the middle of the index names, wsrelay-PREFIX-2026.11.22:
	// see CheckPrefix; default "logs". It must not change while a line is
	// under way: an id is unique only per index.
	Prefix string

	// DataStream is the name of a data stream, which documents go to instead:
	// see CheckDataStream. It needs the templates of package setup. Prefix
	// means nothing then.
	DataStream string

	// Pipeline is the name of an ingest pipeline that documents go through. It must
	// keep the member wsrelay; what it drops counts as stored.
	Pipeline string

	// Access is how the engine is reached.
	Access

	// DeadFile is the path of a file for dead letters that the engine refuses,
	// too, of at most 64 MiB; it is made if need be. Default: their lines wait
	// with their senders.
	DeadFile string

	// Log takes what no error can carry; default: nowhere.
	Log *slog.Logger
}

// Store is a receiver.Store on an Elasticsearch or OpenSearch cluster. Its
// methods may be called concurrently.
type Store struct {
	name     string
	prefix   string
	pipeline string
	stream   *dataStream // nil: documents go to indices of days
	log      *slog.Logger
	client   *Client
	bulks    *dispatcher
	streams  streams
	indices  indices
	owners   owners
	blocks   blocks
	names    names
	trials   chan struct{} // holds one for each trial that is under way
	proof    proof
	deadFile *deadFile     // nil: none
	pause    time.Duration // before the first repetition; doubles
}

var _ receiver.Store = (*Store)(nil)

var validPrefix = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

var validPipeline = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,200}$`)

// likeDate is what the pattern of a template takes for the date behind a prefix:
// wsrelay-logs-2* are the indices of "logs", and would be those of "logs-2eu".
var likeDate = regexp.MustCompile(`-(2|19)`)

// CheckPrefix says why the prefix is none that Options takes: it has up to 64
// lower-case letters, digits, _ and -, is not that of the dead letters, and has
// no part that begins like a date, so that no two prefixes share an index.
func CheckPrefix(prefix string) error {
	if likeDate.MatchString(prefix) {
		return fmt.Errorf(`index prefix %q: what follows a "-" must not begin with 2 or 19: it would be taken for the date in the names of another prefix's indices, `+
			`and that prefix's retention would delete yours. Use "_" there, or a letter first`, prefix)
	}
	if !validPrefix.MatchString(prefix) || strings.HasPrefix(prefix+"-", "dead-") {
		return fmt.Errorf(`index prefix %q: want lower-case letters, digits, _ and -, and neither "dead" nor "dead-…"`, prefix)
	}
	return nil
}

// Open makes a store of the engine at url, or at one of several nodes of one
// cluster, separated by commas. An engine that is down is no error: Commit
// fails until it is up. Open fails if the engine refuses the credentials, or
// if what answers is no such engine.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	o.Prefix = cmp.Or(o.Prefix, "logs")
	if err := CheckPrefix(o.Prefix); err != nil {
		return nil, err
	}
	if o.Pipeline != "" && !validPipeline.MatchString(o.Pipeline) {
		return nil, fmt.Errorf(`ingest pipeline %q: want letters, digits, ".", "_", "@" and "-"`, o.Pipeline)
	}
	stream, err := newDataStream(o.DataStream)
	if err != nil {
		return nil, err
	}
	c, err := Dial(url, o.Access)
	if err != nil {
		return nil, err
	}
	s := &Store{
		name:     "elasticsearch or opensearch",
		prefix:   o.Prefix,
		stream:   stream,
		pipeline: o.Pipeline,
		log:      cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		client:   c,
		blocks:   blocks{now: time.Now},
		owners:   newOwners(),
		pause:    firstPause,
		trials:   make(chan struct{}, maxTrials),
	}
	if stream != nil {
		c.bulkPath = streamBulkPath
	}
	s.bulks = newDispatcher(c.bulk)
	if o.DeadFile != "" {
		s.deadFile, err = openDeadFile(o.DeadFile)
	}
	if err == nil {
		err = s.identify(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Describe implements receiver.Store. The name has product and version if the
// engine could be asked when the store was opened.
func (s *Store) Describe() (name, guarantee string) {
	return s.name, handshake.ExactlyOnce
}

// Ready implements receiver.Readier: the engine answers.
func (s *Store) Ready(ctx context.Context) error {
	_, err := s.client.Product(ctx)
	if err != nil && asError(err).Status == http.StatusForbidden { // may not ask, may still write
		return nil
	}
	return err
}

// Close ends what is under way; a Commit that waits returns an error.
func (s *Store) Close() error {
	s.bulks.close()
	s.client.Close()
	if s.deadFile == nil {
		return nil
	}
	return s.deadFile.close()
}

// identify asks what the engine is, and has it prove that it keeps an id once.
// Only an answer that will not get better by waiting is an error.
func (s *Store) identify(ctx context.Context) error {
	name, err := s.client.Product(ctx)
	if err == nil {
		s.name = name
	} else if asError(err).Status == http.StatusForbidden { // may not ask, may still write
		err = nil
	}
	if err == nil {
		err = s.verifyEngine(ctx)
	}
	if err == nil {
		err = s.checkStream(ctx)
	}
	var e *Error
	if errors.As(err, &e) && !e.strange && (e.transient() || e.Type == "validation_exception") {
		s.log.Warn("engine not ready", "err", err,
			"effect", "lines stay with their senders until it is", "hint", e.Hint())
		return nil
	}
	return err
}
