// Package status tells what a relay does: to a human in words, to a program in
// JSON, to Prometheus as metrics. All three are made of one Snapshot.
//
//	worker: Reporter ──▶ status.sock ──▶ Read ──▶ Write, JSON
//	           └───────▶ --metrics, --metrics-file
//	files:  CURSOR, segments ──────────▶ Read
//
// A running relay answers on a socket in its queue directory; where none does,
// the files tell what they hold. Looking takes no lock and changes nothing.
package status

import (
	"time"

	"wsrelay/relay"
)

// States beside those of a relay.
const (
	NotRunning relay.State = "not_running" // no process has the queue
	Silent     relay.State = "silent"      // one has, and does not answer
	Holding    relay.State = "holding"     // the configuration cannot work; lines go to the queue
	Unknown    relay.State = "unknown"     // the directory cannot be looked into
)

// Snapshot is one relay at one moment. Its JSON keys do not change their
// meaning; others may come. What is not known is left out: of a relay that does
// not run, all that is in no file.
type Snapshot struct {
	Instance string      `json:"instance"`
	QueueDir string      `json:"queue_dir"`
	At       time.Time   `json:"at"`
	State    relay.State `json:"state"`
	Healthy  bool        `json:"healthy"`  // no problem
	Problems []Problem   `json:"problems"` // never null

	PID       int       `json:"pid,omitempty"` // of the worker
	Version   string    `json:"version,omitempty"`
	StartedAt time.Time `json:"started_at,omitzero"` // counters begin here, if nothing else is said

	Keeper         bool   `json:"keeper"`                     // holds the pipe: a worker that dies costs no line
	WorkerRestarts uint64 `json:"worker_restarts"`            // since the keeper began
	LastWorker     string `json:"last_worker_exit,omitempty"` // how the worker before ended

	URL            string    `json:"url,omitempty"`  // of the receiver, or the address that the relay listens on
	Since          time.Time `json:"since,omitzero"` // in this state
	FailedAttempts int       `json:"failed_attempts,omitempty"`
	NextAttemptAt  time.Time `json:"next_attempt_at,omitzero"` // where State is waiting
	Sessions       uint64    `json:"sessions"`
	Failures       uint64    `json:"failures"`

	SID            string    `json:"sid"`
	LinesIn        uint64    `json:"lines_in"`   // on disk since the queue began: the highest number
	LinesDone      uint64    `json:"lines_done"` // of those, with a receipt, lost ones included
	BacklogLines   uint64    `json:"backlog_lines"`
	BacklogBytes   int64     `json:"backlog_bytes"` // on disk, about
	DiskBytes      int64     `json:"disk_bytes"`    // of the queue's files
	DiskLimitBytes int64     `json:"disk_limit_bytes,omitempty"`
	OldestAt       time.Time `json:"oldest_at,omitzero"` // when the oldest line of the backlog came
	LagSeconds     float64   `json:"lag_seconds"`        // how long ago that is; 0: no backlog

	InRate      float64 `json:"in_lines_per_second"`
	OutRate     float64 `json:"out_lines_per_second"`
	RateSeconds float64 `json:"rate_seconds"` // over which both are means; 0: not known

	ReceiptSeq uint64    `json:"receipt_seq,omitempty"` // every line below is in the store
	ReceiptUID string    `json:"receipt_uid,omitempty"` // of the last of them
	ReceiptAt  time.Time `json:"receipt_at,omitzero"`

	SentLines       uint64 `json:"sent_lines"`
	SentBytes       uint64 `json:"sent_bytes"`
	SentAgainLines  uint64 `json:"sent_again_lines"`
	DeadLetterLines uint64 `json:"dead_letter_lines"`
	Lost            []Lost `json:"lost"` // never null

	DrainRate int64 `json:"drain_bytes_per_second,omitempty"` // the limit that is set
}

// Lost is lines that are lost for one reason.
type Lost struct {
	Why   string `json:"why"`   // overflow, expired, purged, damaged, unsynced, oversize
	Lines uint64 `json:"lines"` // since seven days before the start, and older ones that the receiver does not know
	Told  uint64 `json:"told_lines"`
}

// Problem is something that is wrong now, in the three parts that a log record
// of it has.
type Problem struct {
	What   string `json:"error"`
	Effect string `json:"effect"`
	Hint   string `json:"hint"`
}

// ExitCode is how a health check puts it: 0 all are well, 1 something is wrong
// with at least one, 3 at least one does not run and the others are well, or
// there is none.
func ExitCode(all []Snapshot) int {
	code := 0
	for _, s := range all {
		switch {
		case s.State == NotRunning:
			code = 3
		case !s.Healthy:
			return 1
		}
	}
	if len(all) == 0 {
		return 3
	}
	return code
}
