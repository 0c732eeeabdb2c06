package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/app/vlselect"
	"github.com/VictoriaMetrics/VictoriaLogs/app/vlstorage"
	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/logger"
	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sys/unix"
)

// library is its one storage, of which a process can have one open.
type library struct {
	path  string                      // as the library knows it: below the directory's descriptor
	block func(*logstorage.DataBlock) // for tests; nil: nothing
	vlstorage.Storage
}

var libraryInUse sync.Mutex

// settings are the library's command line flags that we do not leave at their
// defaults. Its retention is so long that it never deletes or refuses anything.
func (o *Options) settings(path string) map[string]string {
	return map[string]string{
		"storageDataPath":                  path,
		"retentionPeriod":                  "100y",
		"futureRetention":                  "100y",
		"maxBackfillAge":                   "0",
		"snapshotsMaxAge":                  "0",
		"storage.minFreeDiskSpaceBytes":    strconv.FormatInt(o.libraryReserve(), 10),
		"memory.allowedBytes":              strconv.FormatInt(o.Memory, 10),
		"loggerFormat":                     "json",
		"loggerLevel":                      "INFO",
		"loggerDisableTimestamps":          "true",
		"search.maxConcurrentRequests":     "4",
		"search.maxQueryDuration":          o.QueryTime.String(),
		"search.maxQueueDuration":          "10s",
		"search.logSlowQueryDuration":      "0s",
		"http.disableCORS":                 "true",
		"retention.maxDiskSpaceUsageBytes": "0",
		"fs.disableMincore":                strconv.FormatBool(!mincoreAllowed()),
	}
}

// libraryReserve is what the library leaves free: less than the journal, or a journal
// that took the last space could never be emptied into it.
func (o *Options) libraryReserve() int64 { return o.Reserve / 2 }

// mincoreAllowed reports whether the sandbox we are in lets mincore(2) pass, which
// the library ends the process without.
func mincoreAllowed() bool {
	_, _, err := unix.Syscall(unix.SYS_MINCORE, 0, 0, 0) // of nothing
	return err == 0
}

// claimLibrary takes the library for this store, with our settings and our log.
func claimLibrary(s *Store) error {
	if off, _ := strconv.ParseBool(os.Getenv("DISABLE_FSYNC_FOR_TESTING")); off { // the library does not sync then
		return errors.New("the environment variable DISABLE_FSYNC_FOR_TESTING is set: remove it, or lines would not be safe on disk")
	}
	if !libraryInUse.TryLock() {
		return errors.New("this process has another log database open")
	}
	s.claimed = true
	if !flag.Parsed() { // the library insists; under go test they are
		if err := flag.CommandLine.Parse(nil); err != nil {
			return err
		}
	}
	for name, value := range s.opts.settings(s.under("database")) {
		if err := flag.Set(name, value); err != nil {
			return fmt.Errorf("set the library's %s: %w", name, err)
		}
	}
	logger.SetOutputForTests(&libraryLog{store: s})
	return nil
}

func releaseLibrary() {
	_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
	logger.ResetOutputForTest()
	libraryInUse.Unlock()
}

// startLibrary opens the library's storage at DIR/database. The library ends the
// process if it cannot.
func startLibrary(s *Store) *library {
	vlstorage.Init()
	vlselect.Init()
	return &library{path: s.under("database"), block: s.opts.block}
}

// mergeTime is how long stop waits for merges.
const mergeTime = 3 * time.Second

// stop writes what is in memory to disk. Merges that are under way may end before: they
// read what the closing of their day changes (mustClosePartition of version 1.52.2).
func (e *library) stop() {
	for end := time.Now().Add(mergeTime); e.merging() && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	vlselect.Stop()
	vlstorage.Stop()
}

// call asks the library what its HTTP API offers for the maintenance of partitions.
func (e *library) call(path string, args ...string) ([]byte, error) {
	q := url.Values{}
	for i := 0; i < len(args); i += 2 {
		q.Set(args[i], args[i+1])
	}
	w := &answer{header: http.Header{}, status: http.StatusOK}
	r := (&http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: path, RawQuery: q.Encode()},
		Header: http.Header{},
	}).WithContext(context.Background())
	if !vlstorage.RequestHandler(w, r) {
		return nil, fmt.Errorf("the library has no %s", path)
	}
	if w.status >= 300 {
		return nil, fmt.Errorf("%s: %s", path, strings.TrimSpace(w.body.String()))
	}
	return w.body.Bytes(), nil
}

type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// flush makes what was added visible for queries.
func (e *library) flush() error {
	_, err := e.call("/internal/force_flush")
	return err
}

// days are the partitions that are attached.
func (e *library) days() ([]string, error) { return e.strings("/internal/partition/list") }

func (e *library) attach(day string) error {
	_, err := e.call("/internal/partition/attach", "name", day)
	return err
}

// detach returns when no query uses the day any more.
func (e *library) detach(day string) error {
	_, err := e.call("/internal/partition/detach", "name", day)
	return err
}

// snapshot makes hard links of the parts of a day; no path if there is no such day.
func (e *library) snapshot(day string) ([]string, error) {
	return e.strings("/internal/partition/snapshot/create", "partition_prefix", day)
}

func (e *library) dropSnapshot(path string) error {
	_, err := e.call("/internal/partition/snapshot/delete", "path", path)
	return err
}

func (e *library) strings(path string, args ...string) (list []string, err error) {
	body, err := e.call(path, args...)
	if err == nil {
		err = json.Unmarshal(body, &list)
	}
	return list, err
}

// counters are what the library counts, by the name of its metric.
func (e *library) counters() map[string]float64 {
	var b bytes.Buffer
	metrics.WritePrometheus(&b, false)
	list := map[string]float64{}
	for line := range strings.Lines(b.String()) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && strings.HasPrefix(line, "vl_") {
			if v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64); err == nil {
				list[line[:i]] = v
			}
		}
	}
	return list
}

func (e *library) merging() bool {
	f := e.counters()
	return f[`vl_active_merges{type="storage/inmemory"}`]+f[`vl_active_merges{type="storage/small"}`]+
		f[`vl_active_merges{type="storage/big"}`] > 0
}

// settled tells whether nothing that was added is in memory only. Nothing may be
// added meanwhile. Of the index the library counts only all parts: those on disk
// are in the lists of the days, so a list that names as many leaves none in memory.
func (e *library) settled() (bool, error) {
	f := e.counters()
	indexParts, known := f["vl_indexdb_parts"]
	for _, name := range []string{
		`vl_pending_rows{type="storage"}`, `vl_pending_rows{type="indexdb"}`,
		`vl_storage_parts{type="storage/inmemory"}`,
	} {
		v, ok := f[name]
		if known = known && ok; v > 0 {
			return false, nil
		}
	}
	if !known {
		return false, errors.New("the library does not tell what it has in memory only")
	}
	days, err := e.days()
	if err != nil {
		return false, err
	}
	onDisk := 0
	for _, day := range days {
		parts, err := readParts(filepath.Join(e.path, "partitions", day, "indexdb"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
		onDisk += len(parts)
	}
	return float64(onDisk) >= indexParts, nil
}

// query calls f with each block of rows, one at a time. The columns are the
// library's: they are valid only within the call.
func (e *library) query(ctx context.Context, q string, f func(*logstorage.DataBlock) error) error {
	parsed, err := logstorage.ParseQuery(q)
	if err != nil {
		return fmt.Errorf("parse %s: %w", q, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var failed error
	qctx := logstorage.NewQueryContext(ctx, &logstorage.QueryStats{}, []logstorage.TenantID{{}}, parsed, false, nil)
	err = vlstorage.RunQuery(qctx, func(_ uint, db *logstorage.DataBlock) {
		if e.block != nil {
			e.block(db)
		}
		mu.Lock()
		defer mu.Unlock()
		if failed == nil {
			if failed = f(db); failed != nil {
				cancel()
			}
		}
	})
	return errors.Join(failed, err, ctx.Err())
}
